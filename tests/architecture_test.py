"""The house rules of imports and sizes, read from the source without running it."""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

#: Rooms from the roof down, as docs/architecture.md has them. A file imports from its own
#: room and those below; rooms of one floor are neighbours, which do not know each other.
FLOORS = (
    ("bin",),
    ("reports",),
    ("annotation", "export", "improvement", "t5x"),
    ("evaluation",),
    ("generators", "applications", "benchmarks"),
    ("inference", "training"),
    ("checkpoints",),
    ("baselines", "input"),
    ("models", "datasets"),
    ("weights",),
    ("storage",),
    (
        "targets",
        "words",
        "images",
        "durable",
        "extras",
        "strict_json",
        "compilation_cache",
    ),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TENSORFLOW = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio"}
#: Where TensorFlow and seqio may be imported; all else serves machines without them.
TENSORFLOW_FILES = ("rahf/input/seqio/", "rahf/t5x/")
#: What only T5X imports, by its gin files.
T5X_FILES = ("rahf/t5x/",)
#: Those that may touch TFDS, which runs without TensorFlow, and TensorFlow itself
#: within a function.
TFDS_FILES = "rahf/datasets/files/tfds_"
#: PyTorch and what stands on it, and where they may be imported.
TORCH = {"torch", "diffusers", "transformers", "accelerate"}
TORCH_FILES = (
    "rahf/generators/diffusers_pipeline.py",
    "rahf/generators/torch_arrays.py",
)
#: Parts of clu that import TensorFlow themselves.
HIDDEN_TENSORFLOW = {"clu.metric_writers", "clu.periodic_actions"}
#: Files that may pass 400 lines, each with its reason.
LONG_FILES: dict[str, str] = {}


def _files(*folders: str) -> list[str]:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def _imports(path: str, text: str | None = None) -> list[tuple[int, str]]:
    """(line, dotted module) of every import, those inside functions included.

    `from a import b` counts as a.b, which may be a name rather than a module.
    """
    found = []
    tree = ast.parse(text if text is not None else (ROOT / path).read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by full name"
            found += [(node.lineno, f"{node.module}.{a.name}") for a in node.names]
    return found


def _room(module: str) -> str:
    """rahf.input.loader -> input; the package itself, and what it offers, -> inference."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else "inference"


def _upward(path: str, text: str | None = None) -> list[str]:
    """Every import of a file that points up or sideways, as text."""
    top, _, rest = path.partition("/")
    here = rest.split("/")[0].removesuffix(".py")
    outside = {"rahf": {"tasks", "configs", "tests"}, "tasks": {"configs", "tests"}}
    found = []
    for line, module in _imports(path, text):
        package, room = module.split(".")[0], _room(module)
        wrong = package in outside[top]
        if package == "rahf" and here != "__init__":  # the front door offers upstairs
            mine = "input" if top == "tasks" else here
            wrong = room != mine and FLOOR_OF[room] <= FLOOR_OF[mine]
        if wrong:
            found.append(f"{path}:{line}: {module}")
    return found


def test_imports_point_down():
    assert not [line for path in _files("rahf", "tasks") for line in _upward(path)]


def test_the_check_itself_finds_arrows_that_point_up():
    text = "def f():\n    from rahf.training import steps\n"
    assert _upward("rahf/models/x.py", text)
    assert not _upward("rahf/evaluation/x.py", text)
    assert _upward("rahf/inference/x.py", text), "neighbours"
    assert _upward("rahf/input/x.py", "import tasks.scenes")
    assert _upward("tasks/x.py", "import rahf.checkpoints.start")
    assert not _upward("tasks/x.py", "from rahf.input import loader, vocabulary")
    assert _upward("rahf/words.py", "from rahf import images")
    typed = "if TYPE_CHECKING:\n    from rahf.bin import train\n"
    assert not _upward("rahf/words.py", typed)


def test_every_file_is_in_a_room():
    rooms = {path.split("/")[1].removesuffix(".py") for path in _files("rahf")}
    assert rooms - {"__init__"} <= set(FLOOR_OF)


def test_tensorflow_stays_in_its_rooms():
    wrong = [
        f"{path}:{line}: {module}"
        for path in _files("rahf", "configs")
        if not path.startswith(TENSORFLOW_FILES)
        for line, module in _imports(path)
        if (module.split(".")[0] in TENSORFLOW and not path.startswith(TFDS_FILES))
        or any(module.startswith(hidden) for hidden in HIDDEN_TENSORFLOW)
    ]
    assert not wrong


def test_pytorch_stays_behind_its_adapter():
    for path in _files("rahf", "tasks", "configs"):
        found = {module.split(".")[0] for _, module in _imports(path)}
        assert not found & TORCH or path in TORCH_FILES, path


def test_t5x_stays_with_what_only_t5x_imports():
    for path in _files("rahf", "tasks", "configs"):
        found = [module for _, module in _imports(path)]
        if not path.startswith(T5X_FILES):
            assert not [m for m in found if m.split(".")[0] == "t5x"], path
            theirs = tuple(start.replace("/", ".") for start in T5X_FILES)
            assert not [m for m in found if m.startswith(theirs)], path


def test_tfds_files_need_no_tensorflow_to_be_imported():
    for path in filter(lambda path: path.startswith(TFDS_FILES), _files("rahf")):
        for node in ast.parse((ROOT / path).read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                found = {module for _, module in _imports(path, ast.unparse(node))}
                found = {module.split(".")[0] for module in found}
                assert not found & (TENSORFLOW - {"tensorflow_datasets"}), path


def test_the_way_to_tensorflow_is_a_lazy_import():
    """No file imports TensorFlow's rooms on its top level."""
    prefix = tuple(start.replace("/", ".") for start in TENSORFLOW_FILES)
    for path in _files("rahf"):
        if path.startswith((*TENSORFLOW_FILES, *T5X_FILES)):
            continue
        for node in ast.parse((ROOT / path).read_text("utf-8")).body:
            for _, module in _imports(path, ast.unparse(node)):
                lazy = isinstance(node, ast.FunctionDef | ast.ClassDef)
                assert lazy or not module.startswith(prefix), f"{path}: {module}"


@pytest.mark.parametrize("room", FLOORS[-1])
def test_the_ground_floor_needs_numpy_and_pillow_only(room):
    files = [path for path in _files("rahf") if re.match(rf"rahf/{room}[./]", path)]
    assert files
    for path in files:
        for line, module in _imports(path):
            package = module.split(".")[0]
            allowed = package in sys.stdlib_module_names | {"numpy", "PIL", "rahf"}
            assert allowed, f"{path}:{line}: {module}"


def test_configs_import_ml_collections_only():
    for path in _files("configs"):
        for line, module in _imports(path):
            package = module.split(".")[0]
            allowed = sys.stdlib_module_names | {"ml_collections", "configs"}
            assert package in allowed, f"{path}:{line}: {module}"


def test_files_stay_short():
    lengths = {
        path: len((ROOT / path).read_text("utf-8").splitlines())
        for path in _files("rahf", "tasks", "configs", "tests")
    }
    limits = dict.fromkeys(lengths, 400) | dict.fromkeys(_files("rahf/bin"), 60)
    limits |= {path: 10_000 for path in LONG_FILES}
    shared = (
        "flags",
        "shipped",
        "config_flag",
        "rating_flags",
        "speed_flags",
        "annotate_flags",
        "predict_flags",
        "distill_flags",
        "improve_flags",
        "generator_flags",
    )  # by the mains, not one itself
    limits |= {f"rahf/bin/{name}.py": 400 for name in shared}
    too_long = {p: n for p, n in lengths.items() if n > limits[p]}
    assert not too_long


def test_no_drawer_for_odds_and_ends():
    names = {pathlib.PurePath(path).name for path in _files("rahf", "tasks", "configs")}
    assert not names & {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}


def test_every_folder_is_a_package():
    """A folder without __init__.py would be left out of an installation."""
    folders = {(ROOT / path).parent for path in _files("rahf", "tasks", "configs")}
    assert not [str(f) for f in folders if not (f / "__init__.py").exists()]


def _functions(path: str):
    """(name, definition, whether public) of every function and method of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node, not node.name.startswith("_")


def test_functions_are_steps():
    """At most 60 lines without the docstring; more wants names for its parts."""
    for path in _files("rahf", "tasks"):
        for name, node, _ in _functions(path):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                text = node.body[0]
                lines -= (text.end_lineno or text.lineno) - text.lineno + 1
            assert lines <= 60, f"{path}: {name} has {lines} lines"


def test_public_functions_take_few_arguments():
    """More than seven belong together in a dataclass with a name."""
    for path in _files("rahf", "tasks"):
        for name, node, public in _functions(path):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            number = len([a for a in given if a.arg not in ("self", "cls")])
            assert not public or number <= 7, f"{path}: {name} takes {number}"


def test_no_class_has_the_name_of_another():
    places: dict[str, list[str]] = {}
    for path in _files("rahf"):
        for node in ast.parse((ROOT / path).read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert not twice


def test_the_plan_is_the_one_in_the_docs():
    """docs/architecture.md lists the rooms, floor by floor, as they are here."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-l]) \| (.+?) \|", text, re.MULTILINE)
    listed: dict[str, set[str]] = {}
    for floor, rooms in rows:
        names = re.findall(r"`(\w+)(?:/|\.py)`", rooms)
        listed.setdefault(floor, set()).update(names)
    built = {
        room
        for room in FLOOR_OF
        if _files(f"rahf/{room}") or (ROOT / f"rahf/{room}.py").exists()
    }
    plan = {
        letter: set(rooms) & built
        for letter, rooms in zip("abcdefghijkl", FLOORS, strict=True)
    }
    assert listed == plan
