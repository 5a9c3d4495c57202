// Images through the engine, with as many calls under way as it has slots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

#include "error.hpp"
#include "segmenter.hpp"

namespace isa_core {

template <typename Fill, typename Take>
void Segmenter::run(int images, int group, Size size, std::uint32_t want, Fill fill, Take take) {
    struct Call {
        int first;
        int wanted; ///< of its images; the others fill up a fixed batch
    };
    const int step = batch_for(size, group);
    const bool fixed = manifest_->input.batch.has_value();
    const auto slots = static_cast<std::size_t>(engine_->info().slots);
    const auto image_bytes = 3 * static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
    Call calls[ISA_MAX_SLOTS]; // a ring: call number k is in slot k % slots
    std::size_t begun = 0, ended = 0;
    const auto end_one = [&] {
        const Call call = calls[ended % slots];
        const auto slot = static_cast<int>(ended % slots);
        ++ended; // whatever becomes of it, it is no longer under way
        const isa_engine_answer answer = engine_->wait(slot);
        for (int n = 0; n < call.wanted; ++n)
            take(call.first + n, answer, n);
    };
    try {
        for (int first = 0; first < images;) {
            const int in_group = std::min(group - first % group, images - first);
            const int wanted = std::min(step, in_group);
            const int n = fixed ? step : wanted;
            if (begun - ended == slots)
                end_one();
            const auto slot = static_cast<int>(begun % slots);
            std::uint8_t *const image_nhwc = engine_->input(slot, n, size);
            for (int i = 0; i < n; ++i) {
                std::uint8_t *const image_hwc = image_nhwc + static_cast<std::size_t>(i) * image_bytes;
                if (i < wanted)
                    fill(first + i, image_hwc);
                else
                    std::memcpy(image_hwc, image_hwc - image_bytes, image_bytes);
            }
            engine_->start(slot, want);
            calls[begun % slots] = {first, wanted};
            ++begun;
            first += wanted;
        }
        while (ended < begun)
            end_one();
    } catch (...) {
        // the slots must be idle for the next frame, whatever failed in this one
        while (ended < begun) {
            try {
                engine_->wait(static_cast<int>(ended++ % slots));
            } catch (const std::exception &) { // NOLINT: the first failure is the one to tell
            }
        }
        throw;
    }
}

} // namespace isa_core
