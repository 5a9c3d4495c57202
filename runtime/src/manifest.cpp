#include "manifest.hpp"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "error.hpp"
#include "file.hpp"
#include "input_file.hpp"
#include "json_tree.hpp"

// The order of the checks is pydantic's, so that of several mistakes the same one is named: the fields as they are
// declared in isa_deploy/manifest.py, then unknown fields, then the rules between fields.

namespace isa_core {

namespace {

using Kind = JsonValue::Kind;

constexpr std::size_t kMaxNameLength = 200;
constexpr std::size_t kMaxProfiles = 64;
constexpr std::size_t kMaxLayerTypes = 64;

/// Where a value stands, for messages.
class Place {
public:
    explicit Place(const std::string &origin) : origin_(origin) {}

    Place at(std::string_view part) const {
        Place inner(origin_);
        inner.path_ = path_.empty() ? quotable(part) : path_ + "." + quotable(part);
        return inner;
    }
    Place at(std::size_t index) const { return at(std::to_string(index)); }

    template <typename... Part> [[noreturn]] void refuse(const Part &...part) const {
        fail_manifest(origin_, ": manifest field ", path_.empty() ? "manifest" : path_, ": ", text(part...),
                      "; export the model again");
    }

private:
    const std::string &origin_;
    std::string path_;
};

/// A record whose fields are all known: those that were asked for.
class Record {
public:
    Record(const JsonValue &value, Place place) : value_(value), place_(std::move(place)) {
        if (!value.is(Kind::object))
            place_.refuse("Input should be an object");
    }

    const Place &place() const { return place_; }
    Place place(const char *name) const { return place_.at(name); }

    /// A field that may be missing.
    const JsonValue *find(const char *name) {
        known_.push_back(name);
        return value_.find(name);
    }

    const JsonValue &operator[](const char *name) {
        const JsonValue *field = find(name);
        if (field == nullptr)
            place(name).refuse("Field required");
        return *field;
    }

    void refuse_others() const {
        for (const std::string &key : value_.keys) {
            bool known = false;
            for (const char *name : known_)
                known = known || key == name;
            if (!known)
                place_.at(key).refuse("Extra inputs are not permitted");
        }
    }

private:
    const JsonValue &value_;
    Place place_;
    std::vector<const char *> known_;
};

std::int64_t read_integer(const JsonValue &value, const Place &place, std::int64_t least, std::int64_t most) {
    if (!value.is(Kind::integer))
        place.refuse("Input should be a valid integer");
    if (value.integer < least)
        place.refuse("Input should be greater than or equal to ", least);
    if (value.integer > most)
        place.refuse("Input should be less than or equal to ", most);
    return value.integer;
}

int read_side(const JsonValue &value, const Place &place) {
    return static_cast<int>(read_integer(value, place, 1, kMaxSide));
}

double read_finite(const JsonValue &value, const Place &place) {
    if (!value.is(Kind::integer) && !value.is(Kind::real))
        place.refuse("Input should be a valid number");
    if (!std::isfinite(value.real))
        place.refuse("Input should be a finite number");
    return value.real;
}

bool read_boolean(const JsonValue &value, const Place &place) {
    if (!value.is(Kind::boolean))
        place.refuse("Input should be a valid boolean");
    return value.flag;
}

const std::string &read_string(const JsonValue &value, const Place &place) {
    if (!value.is(Kind::string))
        place.refuse("Input should be a valid string");
    return value.text;
}

void check_name(const std::string &name, const Place &place) {
    std::size_t characters = 0; // not bytes: "crossing" in another script is as long
    for (const char byte : name)
        characters += (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
    if (characters < 1)
        place.refuse("String should have at least 1 character");
    if (characters > kMaxNameLength)
        place.refuse("String should have at most ", kMaxNameLength, " characters");
    if (name.find('\0') != std::string::npos) // it would end the name early for whoever reads it in C
        place.refuse("String should match pattern '^[^\\x00]*$'");
}

const std::string &read_name(const JsonValue &value, const Place &place) {
    const std::string &name = read_string(value, place);
    check_name(name, place);
    return name;
}

const std::string &read_choice(const JsonValue &value, const Place &place,
                               std::initializer_list<const char *> choices) {
    if (value.is(Kind::string))
        for (const char *choice : choices)
            if (value.text == choice)
                return value.text;
    std::string words;
    std::size_t left = choices.size();
    for (const char *choice : choices) {
        words += std::string("'") + choice + "'";
        --left;
        words += left > 1 ? ", " : left == 1 ? " or " : "";
    }
    place.refuse("Input should be ", words);
}

const std::string &read_sha256(const JsonValue &value, const Place &place) {
    const std::string &digest = read_string(value, place);
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos)
        place.refuse("String should match pattern '^[0-9a-f]{64}$'");
    return digest;
}

/// Takes 1 to `most` digits off the front of a text.  Of ASCII alone: what compares versions reads no others.
bool take_digits(std::string_view &text, std::size_t most) {
    std::size_t count = 0;
    while (count < text.size() && text[count] >= '0' && text[count] <= '9')
        ++count;
    if (count < 1 || count > most)
        return false;
    text.remove_prefix(count);
    return true;
}

bool take_dot(std::string_view &text) {
    if (text.empty() || text.front() != '.')
        return false;
    text.remove_prefix(1);
    return true;
}

const std::string &read_version(const JsonValue &value, const Place &place) {
    const std::string &version = read_string(value, place);
    std::string_view left = version;
    bool fits = take_digits(left, 4);
    int parts = 0;
    while (fits && !left.empty())
        fits = ++parts <= 4 && take_dot(left) && take_digits(left, 6);
    if (!fits || parts < 1)
        place.refuse("String should match pattern '^\\d{1,4}(\\.\\d{1,6}){1,4}$'");
    return version;
}

const std::string &read_compute_capability(const JsonValue &value, const Place &place) {
    const std::string &capability = read_string(value, place);
    std::string_view left = capability;
    if (!(take_digits(left, 2) && take_dot(left) && take_digits(left, 1) && left.empty()))
        place.refuse("String should match pattern '^\\d{1,2}\\.\\d$'");
    return capability;
}

const std::vector<JsonValue> &read_array(const JsonValue &value, const Place &place) {
    if (!value.is(Kind::array))
        place.refuse("Input should be a valid array");
    return value.items;
}

/// An array of `count` values, each read by `read_item(value, place)`.
template <std::size_t count, typename ReadItem>
auto read_tuple(const JsonValue &value, const Place &place, ReadItem read_item) {
    const std::vector<JsonValue> &items = read_array(value, place);
    if (items.size() > count)
        place.refuse("Tuple should have at most ", count, " items after validation, not ", items.size());
    std::array<std::decay_t<decltype(read_item(value, place))>, count> read{};
    for (std::size_t i = 0; i < count; ++i) {
        if (i == items.size())
            place.at(i).refuse("Field required");
        read[i] = read_item(items[i], place.at(i));
    }
    return read;
}

Size read_size_hw(const JsonValue &value, const Place &place) {
    const auto sides = read_tuple<2>(value, place, read_side);
    return Size{sides[0], sides[1]};
}

std::optional<Size> read_optional_size_hw(const JsonValue &value, const Place &place) {
    return value.is(Kind::null) ? std::nullopt : std::optional<Size>(read_size_hw(value, place));
}

struct SourceSpec {
    std::string file;
    std::string sha256;
    std::string layout;
};

SourceSpec read_source(const JsonValue &value, const Place &place) {
    Record record(value, place);
    SourceSpec source;
    source.file = read_name(record["file"], record.place("file"));
    source.sha256 = read_sha256(record["sha256"], record.place("sha256"));
    source.layout = read_choice(record["layout"], record.place("layout"), {"mmseg-0.x", "mmseg-1.x", "state_dict"});
    record.refuse_others();
    return source;
}

ResizeSpec read_resize(const JsonValue &value, const Place &place) {
    Record record(value, place);
    ResizeSpec resize;
    const auto scale_wh = read_tuple<2>(record["scale_wh"], record.place("scale_wh"), read_side);
    resize.box = Size{scale_wh[1], scale_wh[0]};
    resize.keep_ratio = read_boolean(record["keep_ratio"], record.place("keep_ratio"));
    record.refuse_others();
    return resize;
}

InputSpec read_input(const JsonValue &value, const Place &place) {
    Record record(value, place);
    InputSpec input;
    input.name = read_name(record["name"], record.place("name"));
    input.rgb = read_choice(record["colour_order"], record.place("colour_order"), {"BGR", "RGB"}) == "RGB";
    const auto shape_nhw =
        read_tuple<3>(record["shape_nhw"], record.place("shape_nhw"), [](const JsonValue &side, const Place &where) {
            return side.is(Kind::null) ? std::optional<int>() : std::optional<int>(read_side(side, where));
        });
    input.mean = read_tuple<3>(record["mean"], record.place("mean"), read_finite);
    input.std = read_tuple<3>(record["std"], record.place("std"), read_finite);
    const JsonValue &resize = record["resize"];
    if (!resize.is(Kind::null))
        input.resize = read_resize(resize, record.place("resize"));
    record.refuse_others();
    if (shape_nhw[1].has_value() != shape_nhw[2].has_value())
        place.refuse("Value error, shape_nhw fixes one of height and width and not the other");
    input.batch = shape_nhw[0];
    if (shape_nhw[1])
        input.frame = Size{*shape_nhw[1], *shape_nhw[2]};
    return input;
}

std::string in_brackets(Size size) {
    return text("(", size.height, ", ", size.width, ")");
}

InferenceSpec read_inference(const JsonValue &value, const Place &place) {
    Record record(value, place);
    InferenceSpec inference;
    inference.slide = read_choice(record["mode"], record.place("mode"), {"whole", "slide"}) == "slide";
    inference.crop = read_optional_size_hw(record["crop_hw"], record.place("crop_hw"));
    inference.stride = read_optional_size_hw(record["stride_hw"], record.place("stride_hw"));
    inference.align_corners = read_boolean(record["align_corners"], record.place("align_corners"));
    inference.windows_in_graph = read_boolean(record["windows_in_graph"], record.place("windows_in_graph"));
    record.refuse_others();
    const std::optional<Size> &crop = inference.crop;
    const std::optional<Size> &stride = inference.stride;
    if (inference.slide) {
        if (!crop || !stride)
            place.refuse("Value error, mode slide needs crop_hw and stride_hw");
        if (stride->height > crop->height || stride->width > crop->width)
            place.refuse("Value error, stride_hw ", in_brackets(*stride), " leaves gaps between windows of ",
                         in_brackets(*crop));
    } else if (crop || stride || inference.windows_in_graph) {
        place.refuse("Value error, crop_hw, stride_hw and windows_in_graph belong to mode slide");
    }
    return inference;
}

ClassesSpec read_classes(const JsonValue &value, const Place &place) {
    Record record(value, place);
    ClassesSpec classes;
    const std::vector<JsonValue> &names = read_array(record["names"], record.place("names"));
    constexpr std::size_t most = kMaxClasses;
    for (std::size_t i = 0; i < names.size() && i < most; ++i)
        classes.names.push_back(read_name(names[i], record.place("names").at(i)));
    if (names.empty())
        record.place("names").refuse("Tuple should have at least 1 item after validation, not 0");
    if (names.size() > most)
        record.place("names").refuse("Tuple should have at most ", most, " items after validation, not ", names.size());
    const std::vector<JsonValue> &palette = read_array(record["palette_rgb"], record.place("palette_rgb"));
    for (std::size_t i = 0; i < palette.size(); ++i) {
        const auto colour = read_tuple<3>(palette[i], record.place("palette_rgb").at(i),
                                          [](const JsonValue &channel, const Place &where) {
                                              return static_cast<std::uint8_t>(read_integer(channel, where, 0, 255));
                                          });
        classes.palette_rgb.insert(classes.palette_rgb.end(), colour.begin(), colour.end());
    }
    record.refuse_others();
    if (palette.size() != names.size())
        place.refuse("Value error, ", palette.size(), " colours for ", names.size(), " classes");
    return classes;
}

OutputsSpec read_outputs(const JsonValue &value, const Place &place) {
    Record record(value, place);
    OutputsSpec outputs;
    outputs.labels = read_name(record["labels"], record.place("labels"));
    outputs.logits = read_name(record["logits"], record.place("logits"));
    outputs.logits_stride =
        static_cast<int>(read_integer(record["logits_stride"], record.place("logits_stride"), 1, 64));
    const JsonValue &confidence = record["confidence"];
    if (!confidence.is(Kind::null))
        outputs.confidence = read_name(confidence, record.place("confidence"));
    record.refuse_others();
    return outputs;
}

int read_count(const JsonValue &value, const Place &place, int least) {
    return static_cast<int>(read_integer(value, place, least, kMaxCount));
}

QuantisationSpec read_quantisation(const JsonValue &value, const Place &place) {
    Record record(value, place);
    QuantisationSpec quantisation;
    quantisation.rest = read_choice(record["rest"], record.place("rest"), {"fp32", "fp16", "bf16"});
    quantisation.ranges = read_name(record["ranges"], record.place("ranges"));
    quantisation.frames = read_count(record["frames"], record.place("frames"), 1);
    quantisation.layers = read_count(record["layers"], record.place("layers"), 0);
    const Place kept_place = record.place("kept");
    const std::vector<JsonValue> &kept = read_array(record["kept"], kept_place);
    for (std::size_t i = 0; i < kept.size() && i < kMaxKeptLayers; ++i)
        quantisation.kept.push_back(read_name(kept[i], kept_place.at(i)));
    if (kept.size() > kMaxKeptLayers)
        kept_place.refuse("Tuple should have at most ", kMaxKeptLayers, " items after validation, not ", kept.size());
    record.refuse_others();
    return quantisation;
}

std::string with_crosses(const std::array<int, 3> &nhw) {
    return text(nhw[0], "x", nhw[1], "x", nhw[2]);
}

void check_profile(const JsonValue &value, const Place &place) {
    Record record(value, place);
    const auto least = read_tuple<3>(record["min_nhw"], record.place("min_nhw"), read_side);
    const auto best = read_tuple<3>(record["opt_nhw"], record.place("opt_nhw"), read_side);
    const auto most = read_tuple<3>(record["max_nhw"], record.place("max_nhw"), read_side);
    record.refuse_others();
    for (std::size_t i = 0; i < 3; ++i)
        if (least[i] > best[i] || best[i] > most[i])
            place.refuse("Value error, ", with_crosses(least), " to ", with_crosses(most),
                         " is not in order: min, opt, max");
}

void check_layer_precisions(const JsonValue &value, const Place &place) {
    if (!value.is(Kind::object))
        place.refuse("Input should be an object");
    std::set<std::string_view> types;
    for (std::size_t i = 0; i < value.keys.size(); ++i) {
        const std::string &name = value.keys[i];
        check_name(name, place.at(name).at("[key]"));
        read_integer(value.items[i], place.at(name), 0, std::numeric_limits<std::int64_t>::max());
        types.insert(name);
        if (types.size() > kMaxLayerTypes)
            place.refuse("Dictionary should have at most ", kMaxLayerTypes, " items after validation, not more");
    }
}

EngineSpec read_engine(const JsonValue &value, const Place &place) {
    Record record(value, place);
    EngineSpec engine;
    engine.builder = read_choice(record["builder"], record.place("builder"), {"tensorrt", "tensorrt_rtx"});
    engine.builder_version = read_version(record["builder_version"], record.place("builder_version"));
    const JsonValue &capability = record["compute_capability"];
    if (!capability.is(Kind::null))
        engine.compute_capability = read_compute_capability(capability, record.place("compute_capability"));
    engine.onnx_sha256 = read_sha256(record["onnx_sha256"], record.place("onnx_sha256"));
    engine.plan_sha256 = read_sha256(record["plan_sha256"], record.place("plan_sha256"));
    engine.hardware_compatible = read_boolean(record["hardware_compatible"], record.place("hardware_compatible"));
    engine.version_compatible = read_boolean(record["version_compatible"], record.place("version_compatible"));
    const Place profiles_place = record.place("profiles");
    const std::vector<JsonValue> &profiles = read_array(record["profiles"], profiles_place);
    for (std::size_t i = 0; i < profiles.size() && i < kMaxProfiles; ++i)
        check_profile(profiles[i], profiles_place.at(i));
    if (profiles.size() > kMaxProfiles)
        profiles_place.refuse("Tuple should have at most ", kMaxProfiles, " items after validation, not ",
                              profiles.size());
    check_layer_precisions(record["layer_precisions"], record.place("layer_precisions"));
    record.refuse_others();
    return engine;
}

/// Python's Literal[1] takes whatever equals 1.
void check_format_version(const JsonValue &value, const Place &place) {
    const bool is_one = value.is(Kind::boolean)   ? value.flag
                        : value.is(Kind::integer) ? value.integer == kManifestFormat
                                                  : value.is(Kind::real) && !(value.real < 1 || value.real > 1);
    if (!is_one)
        place.refuse("Input should be ", kManifestFormat);
}

void refuse_newer(const JsonValue &record, const std::string &origin) {
    const JsonValue *version = record.find("format_version");
    if (version == nullptr || !version->is(Kind::integer) || version->integer <= kManifestFormat)
        return;
    fail_manifest(origin, ": the manifest has format version ",
                  version->text.empty() ? std::to_string(version->integer) : quotable(version->text),
                  " and this isa-deploy reads up to ", kManifestFormat,
                  "; upgrade isa-deploy, or export with this version");
}

nlohmann::json size_hw_json(const std::optional<Size> &size) {
    return size ? nlohmann::json::array({size->height, size->width}) : nlohmann::json();
}

nlohmann::json finite_json(const std::array<double, 3> &values) {
    return {values[0] + 0.0, values[1] + 0.0, values[2] + 0.0}; // -0.0 equals 0.0
}

/// Sorted keys, one way to write a number: equal records, equal text.
std::string canonical_json(const Manifest &manifest, const SourceSpec &source) {
    using nlohmann::json;
    const auto or_null = [](const auto &value) { return value ? json(*value) : json(); };
    const InputSpec &input = manifest.input;
    const InferenceSpec &inference = manifest.inference;
    const OutputsSpec &outputs = manifest.outputs;
    json record;
    record["format_version"] = kManifestFormat;
    record["architecture"] = manifest.architecture;
    record["precision"] = manifest.precision;
    record["source"] = {{"file", source.file}, {"sha256", source.sha256}, {"layout", source.layout}};
    json &in = record["input"];
    in["name"] = input.name;
    in["colour_order"] = input.rgb ? "RGB" : "BGR";
    in["batch"] = or_null(input.batch);
    in["frame_hw"] = size_hw_json(input.frame);
    in["mean"] = finite_json(input.mean);
    in["std"] = finite_json(input.std);
    in["resize"] = json();
    if (input.resize)
        in["resize"] = {{"box_hw", size_hw_json(input.resize->box)}, {"keep_ratio", input.resize->keep_ratio}};
    record["inference"] = {{"slide", inference.slide},
                           {"crop_hw", size_hw_json(inference.crop)},
                           {"stride_hw", size_hw_json(inference.stride)},
                           {"align_corners", inference.align_corners},
                           {"windows_in_graph", inference.windows_in_graph}};
    record["classes"] = {{"names", manifest.classes.names}, {"palette_rgb", manifest.classes.palette_rgb}};
    record["outputs"] = {{"labels", outputs.labels},
                         {"logits", outputs.logits},
                         {"logits_stride", outputs.logits_stride},
                         {"confidence", or_null(outputs.confidence)}};
    if (manifest.quantisation) {
        const QuantisationSpec &quantisation = *manifest.quantisation;
        record["quantisation"] = {{"rest", quantisation.rest},
                                  {"ranges", quantisation.ranges},
                                  {"frames", quantisation.frames},
                                  {"layers", quantisation.layers},
                                  {"kept", quantisation.kept}};
    }
    return record.dump();
}

} // namespace

Manifest parse_manifest(std::string_view json, const std::string &origin) {
    if (json.size() > kMaxManifestBytes)
        fail_manifest(origin, ": the manifest has ", json.size(), " bytes, more than ", kMaxManifestBytes);
    const JsonValue root = parse_json(json, origin);
    if (!root.is(Kind::object))
        fail_manifest(origin, ": the manifest is not a JSON object; export the model again");
    refuse_newer(root, origin);

    const Place place(origin);
    Record record(root, place);
    Manifest manifest;
    check_format_version(record["format_version"], record.place("format_version"));
    manifest.architecture = read_name(record["architecture"], record.place("architecture"));
    manifest.precision = read_choice(record["precision"], record.place("precision"), {"fp32", "fp16", "bf16", "int8"});
    const SourceSpec source = read_source(record["source"], record.place("source"));
    manifest.source_sha256 = source.sha256;
    manifest.input = read_input(record["input"], record.place("input"));
    manifest.inference = read_inference(record["inference"], record.place("inference"));
    manifest.classes = read_classes(record["classes"], record.place("classes"));
    manifest.outputs = read_outputs(record["outputs"], record.place("outputs"));
    const JsonValue *quantisation = record.find("quantisation");
    if (quantisation != nullptr && !quantisation->is(Kind::null))
        manifest.quantisation = read_quantisation(*quantisation, record.place("quantisation"));
    const JsonValue *engine = record.find("engine");
    if (engine != nullptr && !engine->is(Kind::null))
        manifest.engine = read_engine(*engine, record.place("engine"));
    record.refuse_others();
    if (manifest.inference.windows_in_graph && !manifest.input.frame)
        place.refuse("Value error, windows_in_graph needs a fixed height and width");
    if (manifest.precision == "int8" && !manifest.quantisation)
        place.refuse("Value error, precision int8 needs quantisation");
    if (manifest.precision != "int8" && manifest.quantisation)
        place.refuse("Value error, quantisation belongs to precision int8, not to ", manifest.precision);
    manifest.canonical = canonical_json(manifest, source);
    return manifest;
}

Manifest read_manifest(const std::string &path) {
    const PathKind kind = path_kind(path);
    if (kind == PathKind::folder || kind == PathKind::other)
        fail_manifest(path, ": is no file; give a model.json of isa-export");
    std::string json;
    try {
        const InputFile file(path);
        json.resize(kMaxManifestBytes + 1);
        json.resize(file.read(0, json.data(), json.size()));
    } catch (const FileProblem &problem) {
        fail_manifest(path, ": cannot read the manifest (", problem.reason, "); export the model again");
    }
    return parse_manifest(json, path);
}

} // namespace isa_core
