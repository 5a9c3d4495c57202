// A video: video ENGINE INPUT OUTPUT.mp4 [BACKEND]
// Writes the frames with the classes' colours laid over them.  INPUT is a file, or a camera's number or address.
#include <cctype>
#include <cstdio>
#include <string>

#include <isa/isa.hpp>
#include <opencv2/core.hpp>
#include <opencv2/videoio.hpp>

namespace {

bool is_number(const std::string &word) {
    return word.size() == 1 && std::isdigit(static_cast<unsigned char>(word[0])) != 0;
}

int run(const std::string &engine, const std::string &input, const std::string &output, const std::string &backend) {
    isa::Options options;
    options.backend = backend;
    isa::Segmenter segmenter(engine, options);
    const isa::Info info = segmenter.info();

    cv::VideoCapture video;
    if (!(is_number(input) ? video.open(std::stoi(input)) : video.open(input))) {
        std::fprintf(stderr, "%s: cannot be opened as a video\n", input.c_str());
        return 1;
    }
    const double told = video.get(cv::CAP_PROP_FPS);
    const double frames_per_second = told > 0 && told < 1000 ? told : 25; // a camera may tell nothing
    cv::VideoWriter writer;
    cv::Mat frame, labels;
    int count = 0;
    for (; video.read(frame); ++count) {
        if (!writer.isOpened() &&
            !writer.open(output, cv::VideoWriter::fourcc('m', 'p', '4', 'v'), frames_per_second, frame.size())) {
            std::fprintf(stderr, "%s: cannot be written\n", output.c_str());
            return 1;
        }
        labels.create(frame.size(), CV_8UC1); // allocates for the first frame of a size only
        segmenter.segment(frame, labels);
        isa::overlay(frame, labels, info, frame);
        writer.write(frame);
    }
    std::printf("%s: %d frames, %s on %s\n", output.c_str(), count, info.architecture.c_str(), info.device.c_str());
    return count > 0 ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 4 || argc > 5) {
        std::fprintf(stderr, "usage: video ENGINE INPUT OUTPUT.mp4 [BACKEND]\n");
        return 2;
    }
    try {
        return run(argv[1], argv[2], argv[3], argc > 4 ? argv[4] : "");
    } catch (const std::exception &error) { // isa::Error, cv::Exception: one line each
        std::fprintf(stderr, "video: %s\n", error.what());
        return 1;
    }
}
