#include "world.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

namespace standin {

namespace {

constexpr std::uint8_t kFresh = 0xA5; // what memory holds that nothing was written to yet
constexpr std::uint8_t kFreed = 0xDD;
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kGuard = 4096;
constexpr std::size_t kDeviceSpace = std::size_t{1} << 34;

thread_local int depth = 0;
thread_local int current = 0;

/// Addresses for device memory: the host cannot read or write there, and each is given out once.
std::uintptr_t device_space(std::size_t size) {
    static std::uintptr_t next = [] {
        void *space = mmap(nullptr, kDeviceSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (space == MAP_FAILED)
            violate("no address space for device memory");
        return reinterpret_cast<std::uintptr_t>(space);
    }();
    static const std::uintptr_t end = next + kDeviceSpace;
    const std::uintptr_t start = next;
    next += (size + kGuard + kGuard - 1) / kGuard * kGuard;
    if (next > end)
        violate("the address space for device memory is used up");
    return start;
}

std::string hex(std::uintptr_t number) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%zx", static_cast<std::size_t>(number));
    return text;
}

bool overlaps(const Access &a, const Access &b) {
    return a.begin < b.end && b.begin < a.end;
}

} // namespace

void violate(const std::string &what) {
    std::fprintf(stderr, "stand-in: %s\n", what.c_str());
    std::fflush(stderr);
    std::abort();
}

void join(Clock &clock, const Clock &other) {
    for (const auto &[stream, sequence] : other) {
        std::uint64_t &known = clock[stream];
        known = std::max(known, sequence);
    }
}

World &world() {
    static World *const the = new World; // never destroyed: libraries may call while the process ends
    return *the;
}

int current_device() {
    return current;
}

void set_current_device(int device) {
    current = device;
}

void Stream::run_until(std::uint64_t last) {
    while (!queue.empty() && queue.front().sequence <= last) {
        Queued entry = std::move(queue.front());
        queue.pop_front();
        if (entry.waits)
            entry.waits->run_until(entry.waits_for);
        if (entry.run)
            entry.run();
    }
}

std::shared_ptr<Stream> World::make_stream() {
    return std::make_shared<Stream>(Stream{++streams_made, current});
}

std::shared_ptr<Stream> World::stream(cudaStream_t handle, const char *what) {
    const auto number = reinterpret_cast<std::uintptr_t>(handle);
    if (number == 0) {
        if (!knobs.default_stream_allowed)
            violate(std::string(what) + " uses the default stream");
        if (!default_stream)
            default_stream = make_stream();
        return default_stream;
    }
    const auto found = streams.find(number);
    if (found == streams.end())
        violate(std::string(what) + " was given the stream " + hex(number) + ", which is none or was destroyed");
    return found->second;
}

std::shared_ptr<Event> World::event(cudaEvent_t handle, const char *what) {
    const auto found = events.find(reinterpret_cast<std::uintptr_t>(handle));
    if (found == events.end())
        violate(std::string(what) + " was given an event that is none or was destroyed");
    return found->second;
}

Allocation *World::find(std::uintptr_t address) {
    auto found = allocations.upper_bound(address);
    if (found == allocations.begin())
        return nullptr;
    --found;
    Allocation &each = found->second;
    return address < each.start + std::max<std::size_t>(each.size, 1) ? &each : nullptr;
}

Allocation &World::holding(std::uintptr_t address, std::size_t size, const std::string &what) {
    Allocation *const found = find(address);
    if (found == nullptr)
        violate(what + " uses " + hex(address) + ", which is neither device memory nor pinned host memory");
    if (!found->live)
        violate(what + " uses memory at " + hex(address) + " that was freed");
    if (address + size > found->start + found->size)
        violate(what + " goes out of range: " + std::to_string(size) + " bytes at " + hex(address) + " of " +
                std::to_string(found->size) + " at " + hex(found->start));
    return *found;
}

Access World::range(const void *address, std::size_t size, bool pinned, bool write, const std::string &what) {
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    if (holding(begin, size, what).pinned != pinned)
        violate(what + " takes " + hex(begin) + " for " + (pinned ? "pinned host" : "device") + " memory");
    return {begin, begin + size, write};
}

std::uint8_t *World::bytes(const Access &access) {
    return holding(access.begin, access.end - access.begin, "work").bytes(access.begin);
}

std::uintptr_t World::allocate(std::size_t size, bool pinned, bool managed, std::size_t alignment_offset) {
    std::uintptr_t start = 0;
    std::vector<std::uint8_t> hidden;
    if (pinned) {
        void *memory = nullptr;
        if (posix_memalign(&memory, kAlignment, std::max<std::size_t>(size, 1)) != 0)
            violate("no memory for pinned memory");
        start = reinterpret_cast<std::uintptr_t>(memory);
        std::memset(memory, kFresh, size);
        pinned_bytes += size;
    } else {
        start = device_space(size + alignment_offset) + alignment_offset;
        hidden.assign(size, kFresh);
        device_bytes += size;
    }
    devices_used.insert(current);
    allocations.insert_or_assign(start, Allocation{start, size, current, pinned, managed, true, std::move(hidden)});
    return start;
}

void World::free(const void *address, bool pinned, const char *what) {
    const auto start = reinterpret_cast<std::uintptr_t>(address);
    const auto found = allocations.find(start);
    if (found == allocations.end() || found->second.pinned != pinned)
        violate(std::string(what) + " was given " + hex(start) + ", which is not the start of such memory");
    Allocation &allocation = found->second;
    if (!allocation.live)
        violate(std::string(what) + " frees " + hex(start) + " a second time");
    if (!pending(allocation).empty() && lost == cudaSuccess)
        violate(std::string(what) + " frees " + hex(start) + ", which pending work uses (" +
                allocation.accesses.front().work + ")");
    if (pinned) {
        pinned_bytes -= allocation.size;
        std::memset(reinterpret_cast<void *>(start), kFreed, allocation.size);
        std::free(reinterpret_cast<void *>(start));
        allocations.erase(found);
    } else {
        device_bytes -= allocation.size;
        allocation.live = false;
        allocation.hidden = {};
        allocation.accesses.clear();
    }
}

std::vector<Access> &World::pending(Allocation &allocation) {
    auto &all = allocation.accesses;
    all.erase(std::remove_if(all.begin(), all.end(), [&](const Access &a) { return done(a.stream, a.sequence); }),
              all.end());
    return all;
}

bool World::done(int stream, std::uint64_t sequence) const {
    const auto found = host_clock.find(stream);
    return found != host_clock.end() && found->second >= sequence;
}

void World::submit(Stream &stream, const Job &job) {
    if (stream.device != current)
        violate(job.name + " is put into a stream of GPU " + std::to_string(stream.device) + " while GPU " +
                std::to_string(current) + " is current");
    if (stream.capture) {
        stream.capture->jobs.push_back(job);
        return;
    }
    ++stream.sequence;
    join(stream.clock, host_clock);
    stream.clock[stream.number] = stream.sequence;
    for (const Access &access : job.accesses) {
        Allocation &allocation = holding(access.begin, access.end - access.begin, job.name);
        for (const Access &earlier : pending(allocation)) {
            const auto known = stream.clock.find(earlier.stream);
            const bool ordered = known != stream.clock.end() && known->second >= earlier.sequence;
            if (overlaps(earlier, access) && (earlier.write || access.write) && !ordered)
                violate(job.name + " on stream " + std::to_string(stream.number) +
                        (access.write ? " writes" : " reads") + " memory that " + earlier.work + " on stream " +
                        std::to_string(earlier.stream) + (earlier.write ? " writes" : " reads") +
                        ", and nothing orders the two");
        }
        Access mine = access;
        mine.stream = stream.number;
        mine.sequence = stream.sequence;
        mine.work = job.name;
        allocation.accesses.push_back(std::move(mine));
    }
    stream.queue.push_back({stream.sequence, job.prepare()});
}

void World::synchronize(Stream &stream, std::uint64_t sequence, const Clock &clock) {
    if (lose_in > 0 && --lose_in == 0) {
        lose(lose_as);
        return;
    }
    stream.run_until(sequence);
    join(host_clock, clock);
}

void World::lose(cudaError_t as) {
    lost = as;
    for (auto &[handle, stream] : streams) {
        stream->queue.clear();
        stream->capture.reset();
    }
    for (auto &[start, allocation] : allocations)
        allocation.accesses.clear();
}

void World::break_captures(std::thread::id mine, bool others) {
    for (auto &[handle, stream] : streams)
        if (stream->capture && (others || stream->capture->thread == mine))
            stream->capture->broken = cudaErrorStreamCaptureInvalidated;
}

Entry::Entry(const char *name, bool unsafe_in_capture) : lock_(world().mutex) {
    ++depth;
    World &w = world();
    ++w.calls[name];
    bool captures = false;
    if (unsafe_in_capture) {
        for (auto &[handle, stream] : w.streams)
            captures = captures || (stream->capture && stream->capture->thread == std::this_thread::get_id());
        w.break_captures(std::this_thread::get_id(), false);
    }
    const auto failure = w.failures.find(name);
    if (w.lost != cudaSuccess) {
        refused_ = w.lost;
    } else if (w.knobs.driver_too_old) {
        refused_ = cudaErrorInsufficientDriver;
    } else if (w.knobs.device_count == 0) {
        refused_ = cudaErrorNoDevice;
    } else if (captures) {
        refused_ = cudaErrorStreamCaptureUnsupported;
    } else if (failure != w.failures.end()) {
        if (failure->second.countdown == 0) {
            refused_ = failure->second.error;
        } else if (--failure->second.countdown == 0) {
            refused_ = failure->second.error;
            w.failures.erase(failure);
            w.failed = true;
        }
    }
    if (refused_ != cudaSuccess)
        w.last_error = refused_;
}

Entry::~Entry() {
    --depth;
}

cudaError_t Entry::give(cudaError_t error) {
    if (refused_ != cudaSuccess)
        return refused_;
    if (world().lost != cudaSuccess)
        error = world().lost;
    if (error != cudaSuccess)
        world().last_error = error;
    return error;
}

// What a test asks for.

namespace {

class Looking {
public:
    Looking() : lock_(world().mutex) { ++depth; }
    ~Looking() { --depth; }
    Looking(const Looking &) = delete;
    Looking &operator=(const Looking &) = delete;

private:
    std::unique_lock<std::recursive_mutex> lock_;
};

} // namespace

Knobs &knobs() {
    return world().knobs;
}

void fail(const std::string &function, int which, cudaError_t error) {
    const Looking looking;
    world().failures[function] = {which, error};
    world().failed = false;
}

void fail_always(const std::string &function, cudaError_t error) {
    const Looking looking;
    world().failures[function] = {0, error};
}

bool failed() {
    const Looking looking;
    return world().failed;
}

void lose_device(int which, cudaError_t as) {
    const Looking looking;
    world().lose_in = which;
    world().lose_as = as;
}

std::map<std::string, long> calls() {
    const Looking looking;
    return world().calls;
}

std::vector<int> profiles() {
    const Looking looking;
    return world().profiles;
}

std::vector<std::string> copies() {
    const Looking looking;
    return world().copies;
}

std::vector<std::string> left() {
    const Looking looking;
    std::vector<std::string> found;
    for (const auto &[start, each] : world().allocations)
        if (each.live)
            found.push_back(std::to_string(each.size) + " bytes of " + (each.pinned ? "pinned" : "device") + " memory");
    found.insert(found.end(), world().streams.size(), "a stream");
    found.insert(found.end(), world().events.size(), "an event");
    found.insert(found.end(), world().graphs.size(), "a graph");
    for (const auto &[name, count] : world().objects)
        found.insert(found.end(), static_cast<std::size_t>(count), name);
    return found;
}

std::vector<int> devices_used() {
    const Looking looking;
    return {world().devices_used.begin(), world().devices_used.end()};
}

std::size_t device_bytes() {
    const Looking looking;
    return world().device_bytes + world().weights_bytes;
}

cudaError_t last_error() {
    const Looking looking;
    return world().last_error;
}

void reset() {
    const Looking looking;
    World &w = world();
    const std::vector<std::string> still = left();
    if (!still.empty())
        violate("a machine is given up with " + std::to_string(still.size()) + " things, such as " + still.front());
    w.knobs = {};
    w.calls.clear();
    w.failures.clear();
    w.failed = false;
    w.profiles.clear();
    w.copies.clear();
    w.device_asked = false;
    w.lost = cudaSuccess;
    w.last_error = cudaSuccess;
    w.lose_in = 0;
    w.default_stream.reset();
    w.host_clock.clear();
    w.streams_made = 0;
    w.allocations.clear();
    w.devices_used.clear();
    current = 0;
}

bool inside() {
    return depth > 0;
}

void *allocate(const std::vector<std::uint8_t> &contents, int device, bool managed, std::size_t offset) {
    const Looking looking;
    const int before = current;
    current = device;
    const std::uintptr_t start = world().allocate(contents.size(), false, managed, offset);
    current = before;
    world().allocations.at(start).hidden = contents;
    return reinterpret_cast<void *>(start);
}

std::vector<std::uint8_t> read(const void *address, std::size_t size) {
    const Looking looking;
    const Access access = world().range(address, size, false, false, "a test");
    Allocation &allocation = world().holding(access.begin, size, "a test");
    for (const Access &each : world().pending(allocation))
        if (each.write && overlaps(each, access))
            violate("a test reads what " + each.work + " still writes");
    const std::uint8_t *const bytes = allocation.bytes(access.begin);
    return {bytes, bytes + size};
}

void write(void *address, const std::vector<std::uint8_t> &contents) {
    const Looking looking;
    const Access access = world().range(address, contents.size(), false, true, "a test");
    Allocation &allocation = world().holding(access.begin, contents.size(), "a test");
    for (const Access &each : world().pending(allocation))
        if (overlaps(each, access))
            violate("a test writes what " + each.work + " still uses");
    std::copy(contents.begin(), contents.end(), allocation.bytes(access.begin));
}

void release(void *address) {
    const Looking looking;
    world().free(address, false, "a test");
}

} // namespace standin
