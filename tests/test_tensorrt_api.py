"""The sources use of TensorRT and CUDA what there is: in every version, without either of them installed.

mypy holds the sources to the protocols of tensorrt_api.py and cuda_api.py; these tests hold the protocols to
NVIDIA's own bindings, which ``make test`` fetches (tests/genuine/fetch.py), and see that nothing in the sources
gets around the protocols.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import genuine_api
import pytest
from genuine.fetch import DEFAULT_FOLDER, PARTS, Part, is_complete

import isa_deploy
from isa_deploy.runtime.backends import cuda_api, tensorrt_api

PACKAGE = Path(isa_deploy.__file__).parent
ROOT = PACKAGE.parent

TENSORRT_PARTS = [part for part in PARTS if part.name.startswith("tensorrt")]
CUDA_PARTS = [part for part in PARTS if part.name.startswith("cuda")]


def folder_of(part: Part) -> Path:
    """The part's folder; without it the test is skipped, with the reason and what would mend it."""
    if not is_complete(part, DEFAULT_FOLDER):
        refusal = DEFAULT_FOLDER / f"{part.name}.unavailable"
        reason = refusal.read_text().strip() if refusal.exists() else "it was never fetched"
        pytest.skip(
            f"{part.name} is not at {DEFAULT_FOLDER}: {reason}.  `make test` fetches it, given a network, a Python and "
            "machine that NVIDIA has wheels for, and for tensorrt-10.3, 10.16 and 11.4 Linux and a C compiler"
        )
    return DEFAULT_FOLDER / part.name


def request_for(part: Part, tensorrt: types.ModuleType = tensorrt_api, cuda: types.ModuleType = cuda_api) -> Any:
    """What the protocols, or changed ones, ask of the part."""
    if part in CUDA_PARTS:
        return genuine_api.describe(cuda, "CudaRuntimeModule")
    return genuine_api.describe(tensorrt, "RtxModule" if "rtx" in part.name else "TensorRTModule")


def changed(module: types.ModuleType, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module of protocols with pieces of its source replaced, each of which is there once."""
    source = Path(str(module.__file__)).read_text()
    for old, new in changes.items():
        assert source.count(old) == 1, f"{module.__name__} was written anew: this test looks for {old!r}"
        source = source.replace(old, new)
    made = types.ModuleType("changed_protocols")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(source, made.__name__, "exec"), vars(made))
    return made


def ids(part: Part) -> str:
    return part.name


# ----------------------------------------------------------------------------- what cannot be fetched


def test_without_network_and_compiler_each_part_leaves_its_reason_and_nothing_else(tmp_path: Path) -> None:
    into = tmp_path / "api"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    environment = {**os.environ, **offline, "PATH": str(tmp_path), "CC": ""}
    command = [sys.executable, str(Path(__file__).parent / "genuine" / "fetch.py"), "--into", str(into)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.partition(": unavailable: ")[0] for line in done.stdout.splitlines()] == [part.name for part in PARTS]
    assert {path.name for path in into.iterdir()} == {f"{part.name}.unavailable" for part in PARTS}
    assert "C compiler" in (into / "tensorrt-11.4.unavailable").read_text()
    assert "cuda-bindings" in (into / "cuda-13.unavailable").read_text()


# ----------------------------------------------------------------------------- the protocols are genuine


@pytest.mark.parametrize("part", PARTS, ids=ids)
def test_every_name_member_method_and_keyword_of_the_protocols_is_genuine(part: Part) -> None:
    folder = folder_of(part)
    answer = genuine_api.ask(folder, part.imports, request_for(part))
    assert answer["version"].startswith(part.version)
    assert Path(answer["file"]).is_relative_to(folder)
    assert answer["missing"] == []


@pytest.mark.parametrize("part", TENSORRT_PARTS, ids=ids)
def test_classes_that_tensorrt_calls_back_override_what_it_calls(part: Part) -> None:
    derived = [dataclasses.asdict(each) for each in genuine_api.derived_classes(PACKAGE)]
    assert {each["base"] for each in derived} == set(genuine_api.CALLED_BACK)
    assert genuine_api.ask(folder_of(part), part.imports, {"derived": derived})["missing"] == []


@pytest.mark.parametrize("part", CUDA_PARTS, ids=ids)
def test_without_a_gpu_cuda_counts_devices_and_answers_with_an_error(part: Part) -> None:
    is_an_error, name, _ = genuine_api.ask(folder_of(part), part.imports, {})["device_count"]
    assert is_an_error
    assert name in ("cudaErrorNoDevice", "cudaErrorInsufficientDriver")


@pytest.mark.parametrize("module", [tensorrt_api, cuda_api], ids=lambda module: module.__name__.rpartition(".")[2])
def test_no_protocol_is_forgotten(module: types.ModuleType) -> None:
    protocols = set(genuine_api.protocols_of(module))
    roots = protocols & set(genuine_api.MODULES)
    described = set().union(*(genuine_api.genuine_names(module, root) for root in roots))
    assert protocols - roots - described == set(), "tests/genuine_api.py does not know what these describe"


def test_no_class_is_looked_for_in_vain() -> None:
    protocols = genuine_api.protocols_of(tensorrt_api).keys() | genuine_api.protocols_of(cuda_api).keys()
    assert genuine_api.CLASSES.keys() | set(genuine_api.MODULES) <= protocols


def test_tensorrt_rtx_alone_is_asked_for_targets() -> None:
    full = genuine_api.describe(tensorrt_api, "TensorRTModule")
    rtx = genuine_api.describe(tensorrt_api, "RtxModule")
    assert "ComputeCapability" not in full["classes"]
    assert "set_compute_capability" not in full["classes"]["IBuilderConfig"]["methods"]
    assert rtx["classes"]["ComputeCapability"]["write"] == ["CURRENT"]
    assert {"set_compute_capability", "set_flag"} <= rtx["classes"]["IBuilderConfig"]["methods"].keys()
    assert rtx["module"]["methods"]["Builder"] == [["logger", False]]  # inherited


@pytest.mark.parametrize("part", [part for part in TENSORRT_PARTS if "rtx" in part.name], ids=ids)
def test_tensorrt_rtx_spells_its_targets_as_the_exporter_does(part: Part) -> None:
    names = ["SM75", "SM80", "SM86", "SM89", "SM120", "SM99"]
    request = {"classes": {"ComputeCapability": {"read": names}}}
    assert genuine_api.ask(folder_of(part), part.imports, request)["missing"] == ["ComputeCapability.SM99"]


# ----------------------------------------------------------------------------- and the check can fail

TENSORRT_MISTAKES = {
    "    TF32: Any": ("    TF33: Any", {"BuilderFlag.TF33"}),
    "    ErrorCodeTRT: ": ("    ErrorCodesTRT: ", {"ErrorCodesTRT", "class ErrorCodesTRT"}),
    "engine_host_code_allowed: bool": ("engine_host_code: bool", {"Runtime.engine_host_code"}),
    "def parse(self": ("def parse_bytes(self", {"OnnxParser.parse_bytes"}),
    "def get_input(self, index": (
        "def get_input(self, number",
        {"INetworkDefinition.get_input(number): it takes (index)"},
    ),
    "cache: ITimingCache, ignore_mismatch: bool": (
        "cache: ITimingCache",
        {"IBuilderConfig.set_timing_cache(cache): it takes (cache, ignore_mismatch)"},
    ),
    "def create_engine_inspector(self)": (
        "def create_engine_inspector(self, layer: int)",
        {"ICudaEngine.create_engine_inspector(layer): it takes ()"},
    ),
    "def Runtime(self, logger": ("def Runtime(self, log", {"Runtime(log): it takes (logger)"}),
    "    @property\n    def num_errors(self) -> int: ...": (
        "    num_errors: int",
        {"OnnxParser.num_errors: cannot be set"},
    ),
    "    @property\n    def num_outputs(self)": (
        "    def num_outputs(self)",
        {"INetworkDefinition.num_outputs: an attribute, and no method"},
    ),
    "    def desc(self) -> str: ...": ("    desc: str", {"ParserError.desc: a method, and no attribute"}),
    "    def set_shape(self, input": (
        "    def __buffer__(self, flags: int, /) -> memoryview: ...\n\n    def set_shape(self, input",
        {"IOptimizationProfile.__buffer__: memoryview cannot read it"},
    ),
}
"""What is written in tensorrt_api.py, to something wrong, and how the check tells of it."""

CUDA_MISTAKES = {
    "    cudaErrorNoDevice: Any": ("    cudaErrorNoGpu: Any", {"cudaError_t.cudaErrorNoGpu"}),
    "    cudaHostAllocDefault: int": ("    cudaHostAllocUsual: int", {"cudaHostAllocUsual"}),
    "def cudaFreeHost(": ("def cudaHostFree(", {"cudaHostFree"}),
    "def cudaMalloc(self, size": ("def cudaMalloc(self, count", {"cudaMalloc(count): it takes (size)"}),
    "def cudaGraphInstantiate(self, graph: Any, flags: int)": (
        "def cudaGraphInstantiate(self, graph: Any)",
        {"cudaGraphInstantiate(graph): it takes (graph, flags)"},
    ),
    "    def name(self)": ("    def title(self)", {"cudaDeviceProp.title"}),
}


@pytest.mark.parametrize("part", PARTS, ids=ids)
def test_a_wrong_name_member_or_keyword_in_the_protocols_is_caught(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(part)
    mistakes = CUDA_MISTAKES if part in CUDA_PARTS else TENSORRT_MISTAKES
    made = changed(
        cuda_api if part in CUDA_PARTS else tensorrt_api, {old: new for old, (new, _) in mistakes.items()}, monkeypatch
    )
    answer = genuine_api.ask(folder, part.imports, request_for(part, tensorrt=made, cuda=made))
    assert set(answer["missing"]) == set().union(*(told for _, told in mistakes.values()))


@pytest.mark.parametrize("part", TENSORRT_PARTS, ids=ids)
def test_precision_flags_are_found_in_tensorrt_10_and_missed_in_11(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(part)
    made = changed(tensorrt_api, {"    TF32: Any": "    TF32: Any\n    FP16: Any"}, monkeypatch)
    answer = genuine_api.ask(folder, part.imports, request_for(part, tensorrt=made))
    assert answer["missing"] == ([] if part.version.startswith("10.") else ["BuilderFlag.FP16"])


WRONG_CALLBACKS = """
def make_monitor(trt):
    base: object = trt.IProgressMonitor
    class Monitor(base):
        def phase_start(self, phase_name, num_steps): ...
        def step_completed(self, phase_name, step): ...
        def phase_finish(self, phase_name): ...
    return Monitor()

def make_logger(trt):
    class Logger(trt.ILogger):
        worst = trt.ILogger.FATAL
        def log(self, severity, msg): ...
        def _keep(self): ...
    return Logger()
"""


@pytest.mark.parametrize("part", TENSORRT_PARTS, ids=ids)
def test_a_callback_that_tensorrt_would_never_call_is_caught(part: Part, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG_CALLBACKS)
    derived = [dataclasses.asdict(each) for each in genuine_api.derived_classes(tmp_path)]
    assert set(genuine_api.ask(folder_of(part), part.imports, {"derived": derived})["missing"]) == {
        "IProgressMonitor.phase_start with 2 parameters, as wrong.py:Monitor overrides it",
        "IProgressMonitor.step_completed, which wrong.py:Monitor overrides",
        "wrong.py:Monitor has no step_complete, which IProgressMonitor calls",
        "ILogger.FATAL",
    }


def test_a_base_class_that_nobody_can_tell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unclear.py").write_text("def make(base):\n    class Logger(base): ...\n    return Logger()\n")
    with pytest.raises(ValueError, match="what class is base"):
        genuine_api.derived_classes(tmp_path)


# ----------------------------------------------------------------------------- the sources keep to the protocols

FOREIGN = re.compile(r"(tensorrt\w*|cuda|pycuda|cupy)(\.|$)")
"""Modules that are NVIDIA's or lead around it."""

MAY_IMPORT = {"runtime/backends/tensorrt_library.py", "runtime/backends/cuda.py"}
"""Where TensorRT and CUDA are imported, to be passed on as the protocols' modules."""

STRING_ACCESS = {
    # a target by its number: test_tensorrt_rtx_spells_its_targets_as_the_exporter_does holds the spelling
    (
        "export/tensorrt.py",
        "getattr(cast(RtxModule, library.module).ComputeCapability, 'SM' + compute_capability.replace('.', ''))",
    ),
    # any module at all, before it is known to be TensorRT
    ("runtime/backends/tensorrt_library.py", "getattr(module, '__version__', '0')"),
    # an object of the package's own
    ("runtime/backends/tensorrt_engine.py", "self.__dict__"),
}
"""Access to an attribute by a string, which mypy cannot follow, in sources that use TensorRT or CUDA."""

HELD_OTHERWISE = {
    # in the protocol DeviceProperties, which is lost on the way through a helper
    ("runtime/backends/cuda.py", "properties.name"),
    # of the package's own logger, whose base class is Any to mypy
    ("runtime/backends/tensorrt_log.py", "logger.logs"),
}
"""Attributes of what mypy knows nothing about (``Any``), in sources that use TensorRT or CUDA."""


def foreign_imports(tree: ast.AST) -> Iterator[str]:
    """The imports of TensorRT or CUDA in a source, by statement or by function."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            names = [
                each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
        yield from (name for name in names if FOREIGN.match(name))


def string_access(tree: ast.AST) -> Iterator[str]:
    """What reaches an attribute through a string or a dictionary."""
    functions = ("getattr", "setattr", "hasattr", "delattr", "vars", "attrgetter", "methodcaller")
    attributes = ("__dict__", "__getattribute__", "__getattr__")
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in functions
        if called or (isinstance(node, ast.Attribute) and node.attr in attributes):
            yield ast.unparse(node)


def sources() -> dict[str, ast.Module]:
    """Every source of the package."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def sources_with_the_apis() -> dict[str, ast.Module]:
    """The sources that import a protocol or a module that is described by one."""
    apis = re.compile(r"isa_deploy\.runtime\.backends\.(tensorrt_api|tensorrt_library|cuda_api)$")
    return {
        name: tree
        for name, tree in sources().items()
        if any(isinstance(node, ast.ImportFrom) and apis.match(node.module or "") for node in ast.walk(tree))
    }


def test_tensorrt_and_cuda_are_imported_in_two_places_alone() -> None:
    found = {
        (name, each) for name, tree in sources().items() for each in foreign_imports(tree) if name not in MAY_IMPORT
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import tensorrt as trt",
        "import tensorrt_rtx_bindings",
        "from cuda.bindings import runtime",
        "import pycuda.driver",
        "import importlib\nimportlib.import_module('tensorrt_rtx')",
        "from importlib import import_module\nimport_module('cuda.bindings.runtime')",
        "__import__('tensorrt')",
    ],
)
def test_an_import_around_the_protocols_is_caught(source: str) -> None:
    assert list(foreign_imports(ast.parse(source)))


def test_the_packages_own_modules_are_no_foreign_imports() -> None:
    own = "from isa_deploy.export.tensorrt import build\nimport isa_deploy.runtime.backends.cuda\nimport numpy"
    assert list(foreign_imports(ast.parse(own))) == []


def test_no_name_of_the_apis_is_reached_through_a_string() -> None:
    found = {(name, each) for name, tree in sources_with_the_apis().items() for each in string_access(tree)}
    assert found - STRING_ACCESS == set(), "use the name itself, or explain it in STRING_ACCESS"
    assert STRING_ACCESS - found == set(), "gone from the sources: take it out of STRING_ACCESS"


@pytest.mark.parametrize(
    "source", ["getattr(trt, name)", "trt.__dict__['Builder']", "vars(trt)", "operator.attrgetter('Builder')(trt)"]
)
def test_access_through_a_string_is_caught(source: str) -> None:
    assert list(string_access(ast.parse(source)))


# ----------------------------------------------------------------------------- what mypy makes of them

SNIPPET = """
from typing import Any
from isa_deploy.runtime.backends.cuda_api import CudaRuntimeModule
from isa_deploy.runtime.backends.tensorrt_api import RtxModule, TensorRTModule

def uses(trt: TensorRTModule, rtx: RtxModule, cuda: CudaRuntimeModule, logger: Any) -> None:
    trt.BuilderFlag.TF32
    trt.BuilderFlag.FP16  # wrong
    builder = trt.Builder(logger=logger)
    trt.Builder(log=logger)  # wrong
    trt.Refitter  # wrong
    trt.ComputeCapability  # wrong
    rtx.ComputeCapability.CURRENT
    network = builder.create_network(flags=0)
    builder.create_network(flag=0)  # wrong
    builder.build_engine(network)  # wrong
    network.num_layers = 1  # wrong
    builder.error_recorder = None
    cuda.cudaMalloc(size=1)
    cuda.cudaMallocManaged(1)  # wrong
    cuda.cudaError_t.cudaErrorTimeout  # wrong
    cuda.cudaFree()  # wrong
    logger.log  # of Any
"""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What one run of mypy told: erring lines of the snippet, and attributes of ``Any`` by file."""

    wrong_lines: set[int]
    attributes_of_any: dict[str, set[str]]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """mypy over the sources that use the APIs, telling of ``Any`` too, and over the snippet."""
    folder = tmp_path_factory.mktemp("mypy")
    snippet = folder / "snippet.py"
    snippet.write_text(SNIPPET)
    # the cache of `make lint`, where there is one, takes this from half a minute to a second
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", folder / "cache")
    names = sorted(sources_with_the_apis())
    modules = [f"isa_deploy.{name.removesuffix('.py').replace('/', '.')}" for name in names] + ["snippet"]
    config = folder / "pyproject.toml"
    config.write_text(
        (ROOT / "pyproject.toml").read_text()
        + f"\n[[tool.mypy.overrides]]\nmodule = {modules!r}\ndisallow_any_expr = true\n"
    )
    options = ["--config-file", str(config), "--cache-dir", str(folder / "cache"), "--show-column-numbers"]
    options += ["--show-error-end", "--show-absolute-path", "--no-pretty", "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, *(str(PACKAGE / name) for name in names), str(snippet)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    told = re.findall(r"^(.+?):(\d+):(\d+):(\d+):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert done.returncode == 1, f"mypy did not do its work: {done.stdout[-2000:]}{done.stderr}"
    assert told, f"mypy's lines are written anew: {done.stdout[:2000]}"
    spans: dict[Path, set[tuple[int, ...]]] = {}
    wrong_lines = set()
    for path, *span, message in told:
        if message.startswith('Expression has type "Any"'):
            spans.setdefault(Path(path), set()).add(tuple(map(int, span)))
        elif Path(path) == snippet and not message.startswith(("Expression", "Explicit")):
            wrong_lines.add(int(span[0]))
    places = {PACKAGE / name: name for name in names} | {snippet: "snippet"}
    found = {places[path]: set(_attributes_at(path, each)) for path, each in spans.items()}
    return Audit(wrong_lines, found)


def _attributes_at(path: Path, spans: set[tuple[int, ...]]) -> Iterator[str]:
    """The attributes of expressions that stand at these places (line, column, last line, last column)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            value = node.value
            if (value.lineno, value.col_offset + 1, value.end_lineno, value.end_col_offset) in spans:
                yield ast.unparse(node)


def test_mypy_refuses_what_is_not_in_the_protocols(audit: Audit) -> None:
    wrong = {number for number, line in enumerate(SNIPPET.splitlines(), start=1) if line.endswith("# wrong")}
    assert audit.wrong_lines == wrong


def test_mypy_knows_everything_of_the_apis_that_the_sources_touch(audit: Audit) -> None:
    """``Any`` has every attribute: what is read from one is in no protocol, and nothing would hold it."""
    assert audit.attributes_of_any["snippet"] == {"logger.log"}  # and such a thing is found
    # the base classes are Any to mypy: test_classes_that_tensorrt_calls_back_... holds what is read from them
    bases = {(name, each) for name, tree in sources_with_the_apis().items() for each in attributes_of_bases(tree)}
    found = {(name, each) for name, all_of in audit.attributes_of_any.items() for each in all_of if name != "snippet"}
    assert found - bases - HELD_OTHERWISE == set(), "annotate it with a protocol, or explain it in HELD_OTHERWISE"
    assert HELD_OTHERWISE - found == set(), "gone from the sources: take it out of HELD_OTHERWISE"


def attributes_of_bases(tree: ast.AST) -> Iterator[str]:
    """What a source reads from the classes that it derives from."""
    for each in genuine_api.base_attributes(tree):
        yield ast.unparse(each)
