"""Errors a user can mend, each with the exit code its job ends with (sysexits)."""

from __future__ import annotations


class LlmrecError(Exception):
    """Says where, what was found, what was expected and what to do. `exit_code` is what the job ends with."""

    exit_code = 1


class UsageError(LlmrecError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class DataError(LlmrecError):
    """An input table is missing, has the wrong columns, or holds data that must not be scored."""

    exit_code = 65


class MissingDependencyError(LlmrecError):
    """A JAR, a package or a Java version is not there."""

    exit_code = 69


class AuditError(LlmrecError):
    """The finished lists failed a check, so nothing was published."""

    exit_code = 70


class TryAgainError(LlmrecError):
    """Another writer or a server that does not answer: the same command may succeed later."""

    exit_code = 75


class GateError(LlmrecError):
    """A challenger did not pass the gates, so the champion stays."""

    exit_code = 77  # sysexits: no permission to do what was asked


class AlertError(LlmrecError):
    """Every day was evaluated, and figures left their bounds: for schedulers that ask with --fail-on-alert."""

    exit_code = 79  # beside those of sysexits, which end at 78: the job itself did all it should


class ConfigError(LlmrecError):
    """The configuration says something that cannot be."""

    exit_code = 78


class ModelError(LlmrecError):
    """A model is missing, was changed after it was written, or does not fit the configuration."""

    exit_code = 78
