"""The one exception tree of Hansa.

    HansaError
    ├── ConfigError      exit 2   a setting is unknown or out of range
    ├── InputError       exit 3   a file, row, column or picture can't be used
    ├── WireError        exit 4   a message breaks the contract of the league
    ├── QuorumError      exit 5   too few sites took part for a round to count
    ├── RunError         exit 6   a run folder is missing, damaged or of another league
    ├── MachineError     exit 7   this machine lacks something Hansa needs
    ├── EnvelopeError    exit 8   a sealed object can't be opened (`common.crypto.header`)
    ├── AuditError       exit 9   the audit log was edited, cut or can't be written (`common.audit.log`)
    └── PrivacyError     exit 10  what is asked for would break a privacy guarantee

Every error says what happened, where, why it matters and what to do next. So the command line shows it without a
traceback, and a site's operator can act on it.

>>> str(ConfigError("unknown key 'rouns'", where="league.toml", next_step="did you mean 'rounds'?"))
"unknown key 'rouns' (league.toml). Next: did you mean 'rounds'?"
"""

from __future__ import annotations


class HansaError(Exception):
    """A fault, described for the person who must fix it.

    Parameters
    ----------
    what : the fault in one clause.
    where : file, row, column, site or round.
    why : why Hansa can't go on with it; empty where it is plain.
    next_step : what the reader should do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", next_step: str = "") -> None:
        self.what, self.where, self.why, self.next_step = what, where, why, next_step
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """All four parts on one line."""
        text = self.what + (f" ({self.where})" if self.where else "")
        if self.why:
            text += f": {self.why}"
        return text + (f". Next: {self.next_step}" if self.next_step else "")

    def as_dict(self) -> dict[str, str | int]:
        """The JSON twin of the message."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "next_step": self.next_step,
            "exit_code": self.exit_code,
        }


class ConfigError(HansaError):
    """A setting is unknown, missing or out of range."""

    exit_code = 2


class InputError(HansaError):
    """A file, row, column or picture can't be used."""

    exit_code = 3


class WireError(HansaError):
    """A message breaks the contract of the league."""

    exit_code = 4


class QuorumError(HansaError):
    """Too few sites took part for a round to count."""

    exit_code = 5


class RunError(HansaError):
    """A run folder is missing, damaged or belongs to another league."""

    exit_code = 6


class MachineError(HansaError):
    """This machine lacks something that Hansa needs."""

    exit_code = 7


class PrivacyError(HansaError):
    """The request would break a privacy guarantee."""

    exit_code = 10
