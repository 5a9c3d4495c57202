// A GStreamer pipeline: gstreamer ENGINE [SOURCE [FRAMES]]
// SOURCE is what stands before the segmentation, "videotestsrc num-buffers=10" by default, or for instance
// "filesrc location=drive.mp4 ! decodebin" or "v4l2src".  Prints the share of each class in each frame.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <gst/video/video.h>

#include <isa/isa.hpp>

namespace {

template <auto release> struct Release {
    template <typename T> void operator()(T *object) const { release(object); }
};
using Element = std::unique_ptr<GstElement, Release<gst_object_unref>>;
using Sample = std::unique_ptr<GstSample, Release<gst_sample_unref>>;

// A frame of the pipeline, mapped to be read: the segmenter takes it where GStreamer put it, with GStreamer's stride.
class MappedFrame {
public:
    explicit MappedFrame(GstSample *sample) {
        GstVideoInfo video;
        GstCaps *const caps = gst_sample_get_caps(sample);
        GstBuffer *const buffer = gst_sample_get_buffer(sample);
        if (caps == nullptr || buffer == nullptr || gst_video_info_from_caps(&video, caps) == FALSE ||
            gst_video_frame_map(&frame_, &video, buffer, GST_MAP_READ) == FALSE)
            throw isa::Error(ISA_ERROR_INPUT, "a sample of the pipeline that is no frame");
    }
    MappedFrame(const MappedFrame &) = delete;
    MappedFrame &operator=(const MappedFrame &) = delete;
    ~MappedFrame() { gst_video_frame_unmap(&frame_); }

    isa::Image image() const {
        return {static_cast<const std::uint8_t *>(GST_VIDEO_FRAME_PLANE_DATA(&frame_, 0)),
                GST_VIDEO_FRAME_HEIGHT(&frame_), GST_VIDEO_FRAME_WIDTH(&frame_), isa::Order::bgr,
                GST_VIDEO_FRAME_PLANE_STRIDE(&frame_, 0)};
    }

private:
    GstVideoFrame frame_{};
};

void print_shares(int number, const isa::Labels &labels, const isa::Info &info) {
    std::array<std::size_t, 256> pixels{};
    const std::size_t total = static_cast<std::size_t>(labels.height()) * static_cast<std::size_t>(labels.width());
    for (std::size_t i = 0; i < total; ++i)
        ++pixels[labels.data()[i]];
    std::printf("frame %d:", number);
    for (std::size_t label = 0; label < info.class_names.size(); ++label) {
        if (pixels[label] > 0)
            std::printf(" %s %.1f %%", info.class_names[label].c_str(),
                        100.0 * static_cast<double>(pixels[label]) / static_cast<double>(total));
    }
    std::printf("\n");
}

// The pipeline's own words where it stopped with an error; empty at its plain end.
std::string pipeline_error(GstElement *pipeline) {
    const std::unique_ptr<GstBus, Release<gst_object_unref>> bus(gst_element_get_bus(pipeline));
    GstMessage *const message = gst_bus_pop_filtered(bus.get(), GST_MESSAGE_ERROR);
    if (message == nullptr)
        return {};
    GError *error = nullptr;
    gst_message_parse_error(message, &error, nullptr);
    const std::string words = error->message;
    g_error_free(error);
    gst_message_unref(message);
    return words;
}

int run(const char *engine, const std::string &source, int frames) {
    isa::Segmenter segmenter(engine);
    const isa::Info info = segmenter.info();

    // a slow engine sees the newest frame: what came in between is dropped (a file is read as fast as it is segmented)
    const std::string description = source +
                                    " ! videoconvert ! video/x-raw,format=BGR ! appsink name=sink sync=false "
                                    "max-buffers=1 drop=" +
                                    (source.find("v4l2src") == std::string::npos ? "false" : "true");
    GError *wrong = nullptr;
    const Element pipeline(gst_parse_launch(description.c_str(), &wrong));
    if (wrong != nullptr) {
        std::fprintf(stderr, "%s: %s\n", description.c_str(), wrong->message);
        g_error_free(wrong);
        return 1;
    }
    const Element sink(gst_bin_get_by_name(GST_BIN(pipeline.get()), "sink"));
    // back to NULL before the elements go, also when segment() throws
    const std::unique_ptr<GstElement, void (*)(GstElement *)> playing(
        pipeline.get(), [](GstElement *element) { gst_element_set_state(element, GST_STATE_NULL); });
    int count = 0;
    if (gst_element_set_state(pipeline.get(), GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE) {
        for (; count < frames; ++count) {
            const Sample sample(gst_app_sink_pull_sample(GST_APP_SINK(sink.get()))); // null at the end or on an error
            if (!sample)
                break;
            const MappedFrame frame(sample.get());
            print_shares(count, segmenter.segment(frame.image()), info);
        }
    }
    const std::string error = pipeline_error(pipeline.get());
    if (!error.empty())
        std::fprintf(stderr, "%s: %s\n", source.c_str(), error.c_str());
    return error.empty() && count > 0 ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
    gst_init(&argc, &argv);
    if (argc < 2 || argc > 4) {
        std::fprintf(stderr, "usage: gstreamer ENGINE [SOURCE [FRAMES]]\n");
        return 2;
    }
    try {
        return run(argv[1], argc > 2 ? argv[2] : "videotestsrc num-buffers=10",
                   argc > 3 ? std::atoi(argv[3]) : 1 << 30);
    } catch (const isa::Error &error) {
        std::fprintf(stderr, "gstreamer: %s\n", error.what());
        return 1;
    }
}
