"""``stageflow plugins`` and ``stageflow doctor``, on installed distributions."""

import json

import pytest

ACME = """
@hookimpl
def stageflow_stages():
    return [StageContribution(name="acme.greet", target="acme.stages:Greet", kind="transform", summary="Greets.")]

@hookimpl
def stageflow_commands():
    return [
        CheckContribution(name="acme.reach", target="acme_checks:reach", summary="Is Acme reachable?"),
        CheckContribution(name="acme.fine", target="acme_checks:fine", summary="Is Acme fine?"),
    ]
"""
BROKEN = "raise RuntimeError('no license')\n"
ONLY = {"STAGEFLOW_PLUGINS": "acme,broken"}


def test_list_as_json_holds_the_external_plugins(stageflow, install) -> None:
    install("acme", ACME)
    install("broken", BROKEN)
    done = stageflow("plugins", "list", "--json", **ONLY)
    assert done.returncode == 0
    found = {one["name"]: one for one in json.loads(done.stdout)["plugins"]}
    assert "core" not in found
    assert found["acme"] == {
        "name": "acme",
        "distribution": "dist-acme",
        "version": "1.0",
        "state": "loaded",
        "reason": "Hook API 1",
        "fix": None,
    }
    assert found["broken"]["state"] == "failed"
    assert "no license" in found["broken"]["reason"]
    assert done.stderr == ""  # it is in the answer


def test_all_disabled(stageflow, install) -> None:
    install("acme", ACME)
    found = json.loads(stageflow("plugins", "list", "--json", STAGEFLOW_DISABLED_PLUGINS="*").stdout)[
        "plugins"
    ]
    assert {one["state"] for one in found} == {"disabled"}


def test_list_as_text_also_shows_the_built_in_one(stageflow, install) -> None:
    install("acme", ACME)
    lines = stageflow("plugins", "list", **ONLY).stdout.splitlines()
    assert lines[0].split()[:2] == ["core", "stageflow-core"]
    assert any(line.split()[:4] == ["acme", "dist-acme", "1.0", "loaded"] for line in lines)


def test_show(stageflow, install) -> None:
    install("acme", ACME)
    done = stageflow("plugins", "show", "acme", **ONLY)
    assert done.returncode == 0
    assert "plugin 'acme' (dist-acme 1.0)" in done.stdout
    assert "stage acme.greet - Greets." in done.stdout
    (plugin,) = json.loads(stageflow("plugins", "show", "acme", "--json", **ONLY).stdout)["plugins"]
    assert plugin["contributions"][0] == {
        "kind": "stage",
        "name": "acme.greet",
        "target": "acme.stages:Greet",
        "summary": "Greets.",
    }


def test_show_what_is_not_there(call) -> None:
    code, out, err = call("plugins", "show", "croe")
    assert (code, out) == (1, "")
    assert "Did you mean 'core'?" in err


def test_why(call) -> None:
    code, out, err = call("plugins", "why", "timeout")
    assert (code, err) == (0, "")
    assert out.startswith("Interceptor 'timeout' of plugin 'core'")
    assert json.loads(call("plugins", "why", "timeout", "--json")[1])["found"] is True


def test_why_not(call) -> None:
    code, out, err = call("plugins", "why", "timeuot")
    assert (code, out) == (1, "")
    assert "Did you mean 'timeout'?" in err
    code, out, _ = call("plugins", "why", "timeuot", "--json")
    assert code == 1
    assert json.loads(out)["found"] is False


def test_a_sound_installation(call) -> None:
    code, out, err = call("doctor")
    assert (code, err) == (0, "")
    assert out.endswith("Nothing is wrong.\n")
    assert "stageflow-core" in out


def test_doctor_as_json(call) -> None:
    code, out, _ = call("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["status"] == "ok"
    assert found["core"]["name"] == "stageflow-core"
    assert {"name": "cli", "installed": True, "missing": []} in found["extras"]
    assert found["plugins"][0]["name"] == "core"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("def reach(): return 'Acme does not answer'", "Check 'acme.reach': Acme does not answer"),
        ("def reach(): raise OSError('no network')", "the check itself raised OSError: no network"),
        ("def reach(): print('noise')", ""),
        ("", "Check 'acme.reach': Cannot import"),
    ],
    ids=["finds", "raises", "fine", "missing"],
)
def test_checks_of_plugins(stageflow, install, write, check: str, said: str) -> None:
    install("acme", ACME)
    write("site/acme_checks.py", f"{check}\ndef fine(): return None\n")
    done = stageflow("doctor", "--json", **ONLY)
    found = json.loads(done.stdout)
    assert done.returncode == bool(said)
    assert [said in problem["message"] for problem in found["problems"]] == ([True] if said else [])


def test_a_broken_plugin_and_one_for_another_core(stageflow, install) -> None:
    install("broken", BROKEN)
    install("old", "", requires="stageflow-core<1.0")
    done = stageflow("doctor", STAGEFLOW_PLUGINS="broken,old")
    assert done.returncode == 1
    assert "Found 2 problems:" in done.stdout
    assert "plugin 'broken' (dist-broken 1.0) has failed" in done.stdout
    assert "dist-old 1.0 needs stageflow-core<1.0, but 2." in done.stdout
