"""The stand-in gcloud's command lines, and how it refuses one."""

from dataclasses import dataclass, field

HELP = "To search the help text of gcloud commands, run:\n  gcloud help -- SEARCH_TERMS"
SWITCHES = ("--tunnel-through-iap", "--quiet", "-q")
VALUED = ("--zone", "--project", "--verbosity", "--account")


class RefusalError(Exception):
    """Ends the program with a status, after the text on stderr."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Words:
    """A command line behind the verb; `rest` is what follows `--`."""

    verb: str
    names: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, list[str]] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)
    rest: list[str] = field(default_factory=list)

    def option(self, name: str) -> str:
        if name not in self.options:
            raise RefusalError(
                f"ERROR: (gcloud.compute.{self.verb}) Underspecified resource "
                f"[{' '.join(self.names)}]. Specify the [{name}] flag."
            )
        return self.options[name]


@dataclass(frozen=True)
class Grammar:
    """What one verb knows besides what every verb knows."""

    verb: str
    valued: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()

    def parse(self, argv: list[str]) -> Words:
        """Strict, as gcloud: an unknown flag ends it with status 2."""
        words = Words(self.verb)
        if "--" in argv:
            at = argv.index("--")
            argv, words.rest = argv[:at], argv[at + 1 :]
        rest, unknown = list(argv), []
        while rest:
            word = rest.pop(0)
            key, equals, value = word.partition("=")
            takes = key in (*VALUED, *self.valued, *self.repeated)
            if takes and not equals and not rest:
                text = f"argument {key}: expected one argument"
                raise RefusalError(f"ERROR: (gcloud.compute.{self.verb}) {text}", 2)
            if takes:
                value = value if equals else rest.pop(0)
                words.options[key] = value
                words.repeated.setdefault(key, []).append(value)
            elif word in (*SWITCHES, *self.switches):
                words.switches.add(word)
            elif word.startswith("-"):
                unknown.append(word)
            else:
                words.names.append(word)
        if unknown:
            raise RefusalError(
                f"ERROR: (gcloud.compute.{self.verb}) unrecognized arguments: "
                f"{' '.join(unknown)} \n\n{HELP}",
                2,
            )
        return words
