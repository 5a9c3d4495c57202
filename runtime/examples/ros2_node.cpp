// A ROS 2 node: images in, overlays and label maps out.
//   ros2_node --ros-args -p engine:=/path/to/engine -p backend:=openvino -r image:=/camera/image_raw
// Subscribes to `image` (bgr8 or rgb8); publishes `overlay` (as the image) and `labels` (mono8: the number of a class)
// with the image's stamp and frame.
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <isa/isa.hpp>
#include <rclcpp/rclcpp.hpp>
#include <sensor_msgs/msg/image.hpp>

namespace {

using sensor_msgs::msg::Image;

class SegmentationNode : public rclcpp::Node {
public:
    SegmentationNode()
        : Node("isa_segmentation"), segmenter_(open(*this)), info_(segmenter_.info()),
          overlay_(create_publisher<Image>("overlay", 1)), labels_(create_publisher<Image>("labels", 1)),
          // the newest image alone: what came while the last one was segmented is old
          images_(create_subscription<Image>("image", rclcpp::SensorDataQoS().keep_last(1),
                                             [this](const Image &image) { segment(image); })) {
        RCLCPP_INFO(get_logger(), "%s with %s on %s", info_.architecture.c_str(), info_.backend.c_str(),
                    info_.device.c_str());
    }

private:
    static isa::Segmenter open(rclcpp::Node &node) {
        isa::Options options;
        options.backend = node.declare_parameter<std::string>("backend", "auto");
        return isa::Segmenter(node.declare_parameter<std::string>("engine", ""), options);
    }

    void segment(const Image &image) {
        if (image.encoding != "bgr8" && image.encoding != "rgb8") {
            RCLCPP_ERROR_THROTTLE(get_logger(), *get_clock(), 5000, "images are %s, and must be bgr8 or rgb8",
                                  image.encoding.c_str());
            return;
        }
        // a message comes from elsewhere: its bytes must be as many as it says
        const std::size_t height = image.height, width = image.width, step = image.step;
        if (height == 0 || width == 0 || height > 65536 || width > 65536 || step < 3 * width ||
            image.data.size() / height < step) {
            RCLCPP_ERROR_THROTTLE(get_logger(), *get_clock(), 5000, "an image of %u x %u with %u bytes a row has %zu",
                                  image.height, image.width, image.step, image.data.size());
            return;
        }
        const int h = static_cast<int>(height), w = static_cast<int>(width);
        const isa::Order order = image.encoding == "rgb8" ? isa::Order::rgb : isa::Order::bgr;
        try {
            auto labels = std::make_unique<Image>();
            labels->header = image.header;
            labels->height = image.height;
            labels->width = image.width;
            labels->encoding = "mono8";
            labels->step = image.width;
            labels->data.resize(height * width);
            auto overlay = std::make_unique<Image>(image);
            const isa::LabelsView view(labels->data.data(), h, w);
            const auto stride = static_cast<std::ptrdiff_t>(step);
            const isa::Image frame(image.data.data(), h, w, order, stride);
            segmenter_.segment(frame, view);
            isa::overlay(frame, view, info_, isa::Picture(overlay->data.data(), h, w, order, stride));
            labels_->publish(std::move(labels));
            overlay_->publish(std::move(overlay));
        } catch (const isa::Error &error) {
            RCLCPP_ERROR_THROTTLE(get_logger(), *get_clock(), 5000, "%s", error.what());
        }
    }

    isa::Segmenter segmenter_;
    isa::Info info_;
    rclcpp::Publisher<Image>::SharedPtr overlay_;
    rclcpp::Publisher<Image>::SharedPtr labels_;
    rclcpp::Subscription<Image>::SharedPtr images_;
};

} // namespace

int main(int argc, char **argv) {
    rclcpp::init(argc, argv);
    int result = 0;
    try {
        rclcpp::spin(std::make_shared<SegmentationNode>()); // one thread: a segmenter serves one at a time
    } catch (const std::exception &error) {                 // isa::Error, or a parameter of another type
        RCLCPP_FATAL(rclcpp::get_logger("isa_segmentation"), "%s", error.what());
        result = 1;
    }
    rclcpp::shutdown();
    return result;
}
