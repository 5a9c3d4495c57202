// Graphs for the fake backend, written as an ONNX file is: a protobuf message with a graph and metadata.
#pragma once

#include <fstream>
#include <string>

namespace fake {

inline std::string varint(std::size_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7)
        bytes += static_cast<char>((value & 0x7F) | 0x80);
    return bytes + static_cast<char>(value);
}

/// A field of bytes of a protobuf message.
inline std::string field(int number, const std::string &bytes) {
    return varint(static_cast<std::size_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}

/// What a manifest says, where a test wants something else than usual.
struct Model {
    int classes = 5;
    std::string setup = "fast=1";
    std::string colour_order = "BGR";
    std::string shape_nhw = "[null, null, null]";
    std::string resize = "null";
    std::string inference =
        R"({"mode": "whole", "crop_hw": null, "stride_hw": null, "align_corners": false, "windows_in_graph": false})";

    std::string manifest() const {
        std::string names, palette;
        for (int c = 0; c < classes; ++c) {
            names += (c != 0 ? ", \"class " : "\"class ") + std::to_string(c) + '"';
            palette += std::string(c != 0 ? ", [" : "[") + std::to_string(c * 9 % 256) + ", 200, 30]";
        }
        return R"({"format_version": 1, "architecture": "ISANet-R18", "precision": "fp32", "source": {"file": "a.pth", "sha256": ")" +
               std::string(64, 'a') + R"(", "layout": "mmseg-1.x"}, "input": {"name": "image", "colour_order": ")" +
               colour_order + R"(", "shape_nhw": )" + shape_nhw +
               R"(, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "resize": )" + resize +
               R"(}, "inference": )" + inference + R"(, "classes": {"names": [)" + names + R"(], "palette_rgb": [)" +
               palette +
               R"(]}, "outputs": {"labels": "labels", "logits": "logits", "logits_stride": 8, "confidence": null}, "engine": null})";
    }

    std::string bytes() const {
        return field(7, "fake: classes=" + std::to_string(classes) + " stride=8 " + setup + ";") +
               field(14, field(1, "isa_deploy") + field(2, manifest()));
    }

    void write(const std::string &path) const { std::ofstream(path, std::ios::binary) << bytes(); }
};

} // namespace fake
