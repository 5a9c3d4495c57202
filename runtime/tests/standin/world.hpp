// The state behind both stand-in libraries: memory, streams, what comes before what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <standin.h>

namespace standin {

[[noreturn]] void violate(const std::string &what);

/// For each stream, up to which of its pieces of work everything is known to be done.
using Clock = std::map<int, std::uint64_t>;
void join(Clock &clock, const Clock &other);

/// A range of memory that a piece of work reads or writes.
struct Access {
    std::uintptr_t begin;
    std::uintptr_t end;
    bool write;
    int stream = 0;
    std::uint64_t sequence = 0;
    std::string work = {};
};

struct Allocation {
    std::uintptr_t start;
    std::size_t size;
    int device;
    bool pinned;
    bool managed;
    bool live = true;
    std::vector<std::uint8_t> hidden = {}; // a device's bytes; pinned memory is the host's own
    std::vector<Access> accesses = {};

    std::uint8_t *bytes(std::uintptr_t address) {
        return pinned ? reinterpret_cast<std::uint8_t *>(address) : hidden.data() + (address - start);
    }
};

/// Something to do on a stream.  `prepare` is called when it is queued, at each launch of a graph that holds it too,
/// and gives what is to be done later.
struct Job {
    std::string name;
    std::vector<Access> accesses;
    std::function<std::function<void()>()> prepare;
    std::shared_ptr<void> held = {}; // of the context that was captured
};

struct Stream;

struct Queued {
    std::uint64_t sequence;
    std::function<void()> run = {};
    std::shared_ptr<Stream> waits = {};
    std::uint64_t waits_for = 0;
};

struct Capture {
    std::thread::id thread;
    std::vector<Job> jobs = {};
    cudaError_t broken = cudaSuccess;
};

struct Stream {
    int number;
    int device;
    Clock clock = {};
    std::deque<Queued> queue = {};
    std::uint64_t sequence = 0;
    std::unique_ptr<Capture> capture = {};

    void run_until(std::uint64_t last);
};

struct Event {
    unsigned int flags;
    std::shared_ptr<Stream> stream = {}; // none until it is recorded
    std::uint64_t sequence = 0;
    Clock clock = {};
};

struct Graph {
    std::vector<Job> jobs;
    bool executable;
};

struct Failure {
    int countdown; // 0: always
    cudaError_t error;
};

struct World {
    std::recursive_mutex mutex;
    Knobs knobs;
    std::map<std::string, long> calls;
    std::map<std::string, Failure> failures;
    bool failed = false;
    std::vector<int> profiles;
    std::vector<std::string> copies;
    bool device_asked = false;
    cudaError_t lost = cudaSuccess;
    cudaError_t last_error = cudaSuccess;
    int lose_in = 0;
    cudaError_t lose_as = cudaErrorIllegalAddress;
    Clock host_clock;
    int streams_made = 0;
    std::uintptr_t next_handle = 0x50000040;
    std::map<std::uintptr_t, std::shared_ptr<Stream>> streams;
    std::map<std::uintptr_t, std::shared_ptr<Event>> events;
    std::map<std::uintptr_t, std::shared_ptr<Graph>> graphs;
    std::shared_ptr<Stream> default_stream;
    std::map<std::uintptr_t, Allocation> allocations; // freed device memory too: its addresses never come again
    std::size_t device_bytes = 0;
    std::size_t pinned_bytes = 0;
    std::size_t weights_bytes = 0;
    std::set<int> devices_used;
    std::map<std::string, int> objects; // of TensorRT's

    std::shared_ptr<Stream> stream(cudaStream_t handle, const char *what);
    std::shared_ptr<Stream> make_stream();
    std::shared_ptr<Event> event(cudaEvent_t handle, const char *what);
    Allocation &holding(std::uintptr_t address, std::size_t size, const std::string &what);
    Allocation *find(std::uintptr_t address);
    Access range(const void *address, std::size_t size, bool pinned, bool write, const std::string &what);
    std::uint8_t *bytes(const Access &access);
    std::uintptr_t allocate(std::size_t size, bool pinned, bool managed, std::size_t alignment_offset = 0);
    void free(const void *address, bool pinned, const char *what);
    std::vector<Access> &pending(Allocation &allocation);
    bool done(int stream, std::uint64_t sequence) const;
    void submit(Stream &stream, const Job &job);
    void synchronize(Stream &stream, std::uint64_t sequence, const Clock &clock);
    void lose(cudaError_t as);
    void break_captures(std::thread::id mine, bool others);
};
World &world();

int current_device();
void set_current_device(int device);

/// One call of the program's: counted, alone in the world, and perhaps one that has to fail.
class Entry {
public:
    explicit Entry(const char *name, bool unsafe_in_capture = false);
    ~Entry();
    Entry(const Entry &) = delete;
    Entry &operator=(const Entry &) = delete;

    /// What the call has to answer without doing anything; cudaSuccess: go on.
    cudaError_t refused() const { return refused_; }
    /// An answer, kept for cudaGetLastError.
    cudaError_t give(cudaError_t error);

private:
    std::unique_lock<std::recursive_mutex> lock_;
    cudaError_t refused_ = cudaSuccess;
};

} // namespace standin
