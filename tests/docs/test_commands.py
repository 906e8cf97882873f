"""Every command on a page parses, and is run by a test or says that it needs a project."""

import ast
import re

import pytest

from mayfly import cli
from tests.conftest import ROOT
from tests.docs.commands import commands, problem
from tests.docs.pages import Block, blocks, codes, name, pages

RUN, NEEDS = "run by tests", "needs a project"
PAGES = pages()
# What is dated was run then, by the command that it names.
BY_HAND = [page for page in PAGES if "results" not in page.parts]
LAYERS = (
    "tests/integration/test_layers.py::"
    "test_no_secret_shows_anywhere_while_a_seed_and_a_session_stand"
)
TABLE = (
    "tests/integration/test_commands_page.py::test_every_row_of_the_page_does_what_the_old_way_did"
)
UP = "tests/cloud/test_lifecycle.py::test_up_prints_exports_that_a_shell_can_source"
CI = "tests/tools/test_workflows.py::test_ci_runs_the_command_of_the_readme"
PATTERN = "tests/desk/test_cli.py::test_local_up_finds_a_pattern_in_the_users_own_folder"
HERE = "tests/docs/test_commands.py::test_plan_answers_without_an_account"
# What a parser says of "`mayfly cp`", "`mayfly local`", "`--nodes N`" and "`--nodes`".
OPEN = re.compile(r"Missing|Input should be|Option '\S+' requires an argument")
RUNS = {
    "make setup": CI,
    "make check": CI,
    "make test": CI,
    'make test ARGS="tests/unit -q"': CI,
    "make demo": "tests/integration/test_demo.py::"
    "test_demo_tells_the_whole_story_when_nothing_goes_wrong",
    "mayfly plan kimi-k2.5 --machine a3-highgpu-8g": HERE,
    "mayfly plan --all": "tests/unit/test_plan.py::"
    "test_page_of_all_fits_is_what_the_command_prints",
    "mayfly local up": UP,
    "mayfly local up --setting capacity=nothing-anywhere": PATTERN,
    "mayfly local up --setting capacity=./monday.yaml": PATTERN,
    "mayfly local down": "tests/cloud/test_lifecycle.py::test_down_leaves_nothing",
    "mayfly logs dev -f": TABLE,
    "mayfly connect dev": TABLE,
    "mayfly dashboard": "tests/page/test_command.py::"
    "test_dashboard_takes_its_tunnels_along_when_it_is_terminated",
    "pulumi stack init foundation": LAYERS,
    "pulumi stack init seed": LAYERS,
    "pulumi stack init dev": LAYERS,
    "pulumi up --yes --stack foundation": LAYERS,
    "pulumi up --yes --stack seed": LAYERS,
    "pulumi up --yes --stack dev": LAYERS,
    "pulumi stack output endpoint_url --stack dev": LAYERS,
    "pulumi destroy --yes --stack dev": LAYERS,
}
"""What is run, as the pages have it -> the test that runs it."""


def unmarked(text: str) -> list[str]:
    """Commands in blocks that say neither who runs them nor that they need a project."""
    return [
        c for block in shell(text) if block.mark not in (RUN, NEEDS) for c in commands(block.body)
    ]


def unrun(text: str) -> list[str]:
    """Commands that are said to be run by a test, and that none is known to run."""
    return [
        c
        for block in shell(text)
        if block.mark == RUN
        for c in commands(block.body)
        if c not in RUNS
    ]


def shell(text: str) -> list[Block]:
    """Blocks that somebody may paste; without a language, too."""
    return [block for block in blocks(text) if block.lang in ("", "bash", "sh", "shell", "console")]


def wrong(text: str) -> dict[str, str]:
    """Commands in blocks that their program would not take, with its words."""
    found = {c: problem(c) for block in shell(text) for c in commands(block.body)}
    return {command: why for command, why in found.items() if why}


def wrong_in_prose(text: str) -> dict[str, str]:
    """The same for code in sentences, which may leave out what is plain and hold a place open."""
    whole = [code for code in codes(text) if not re.search(r"…|\.$|^python (?!-m |\w+/)", code)]
    lines = [c for code in whole for c in commands(re.sub(r"[\[\]]|\.\.\.", " ", code)) if " " in c]
    found = {line: problem(line) for line in lines}
    return {line: why for line, why in found.items() if why and not OPEN.match(why)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_blocks_are_taken_by_their_programs(page):
    """Who pastes a line must not meet "No such option"."""
    assert wrong(page.read_text()) == {}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_are_taken_by_their_programs(page):
    """A remedy that does not exist is worse than none."""
    assert wrong_in_prose(page.read_text()) == {}


@pytest.mark.parametrize("page", BY_HAND, ids=name)
def test_every_block_is_run_by_a_test_or_needs_a_project(page):
    """What nobody runs is wrong in a month."""
    text = page.read_text()

    assert unmarked(text) == []
    assert unrun(text) == []


def test_every_test_that_is_said_to_run_a_command_is_there():
    """A test that was renamed runs nothing any more."""
    for test in set(RUNS.values()):
        path, _, function = test.partition("::")
        module = ast.parse((ROOT / path).read_text())
        named = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
        assert function in named, test


def test_every_command_that_is_run_is_on_a_page():
    """No list of what is long gone."""
    there = {
        c for page in BY_HAND for block in shell(page.read_text()) for c in commands(block.body)
    }

    assert set(RUNS) - there == set()


def test_plan_answers_without_an_account(capsys):
    """The README's first look, and the figures in its table: nobody else keeps those in step."""
    table = re.findall(r"\$(\d+\.\d\d)", (ROOT / "README.md").read_text())
    said = ""
    for machine in ("a3-highgpu-8g", "a2-ultragpu-8g"):
        assert cli.main(["plan", "kimi-k2.5", "--machine", machine]) == 0
        said += capsys.readouterr().out

    assert len(table) == 7
    assert [usd for usd in table if usd not in said] == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("mayfly plan kimi-k2.5 --machin a3-highgpu-8g", "No such option: --machin"),
        ("mayfly nurse dev", "no command nurse"),
        ("mayfly local sideways", "no command sideways"),
        ("mayfly plan --hours soon", "Input should be a valid number"),
        ("mayfly cp alone", "Missing parameter: target"),
        ("export A=b && mayfly quota check --json --now  # why", "No such option: --now"),
        ("make tea", "no target tea"),
        ("python bench/gone.py", "there is no bench/gone.py"),
        ("python -m tests.nowhere x", "there is no tests/nowhere.py"),
        ("python bench/benchmark.py --round 3", "it knows no --round"),
        ("pulumi stack innit dev", "no command innit"),
        ("pulumi up --yess --stack dev", "pulumi up knows no --yess"),
    ],
)
def test_command_check_turns_red_when_a_page_is_wrong(line, says):
    """The twin, once for each way to be wrong."""
    (why,) = wrong(f"# A page\n\n```bash\n{line}\n```\n").values()

    assert says in why


def test_mark_check_turns_red_when_nobody_runs_a_block():
    """The twins: no mark, and a mark that is not true."""
    block = "```bash\nmayfly status\n```\n"

    assert unmarked(block) == ["mayfly status"]
    assert unmarked(f"<!-- needs a project -->\n{block}") == []
    assert unrun(f"<!-- run by tests -->\n{block}") == ["mayfly status"]
    assert wrong_in_prose("Try `mayfly status --wach`, or `mayfly probe`") == {
        "mayfly status --wach": "No such option: --wach"
    }
