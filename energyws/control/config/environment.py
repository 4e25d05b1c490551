"""The environment of child processes: pure.

They get the settings through a descriptor, so no secret need be in /proc/PID/environ of each of
them, nor in what a crash reporter collects there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from energyws.control.config.overrides import PREFIX
from energyws.control.config.problems import is_secret
from energyws.settings import Settings

# What holds a secret by its name, unless it names the file that has it.
_NAMED: Final = re.compile(
    r"(?!.*_(FILE|PATH|DIR)$)"
    r".*(SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|(PRIVATE|API|ACCESS)_?KEY)",
    re.IGNORECASE,
)
# A value as long as this that is found in a secret is a part of it, not a coincidence.
_PART_CHARACTERS: Final = 8


def without_secrets(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The variables that children may have.

    Not among them: overrides of the configuration; those with a secret of `settings`, or a part of
    one, whatever their name; and those that are named like a secret.
    """
    secrets = list(_secrets(settings))
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(PREFIX)
        and not _NAMED.match(name)
        and not any(_is_part(value, secret) for secret in secrets)
    }


def _secrets(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    password = settings.schema_registry.password
    for secret in (auth.jwt_secret, auth.jwt_secret_previous, settings.admin.token, password):
        if secret:
            yield secret
    for name, value in settings.kafka.options.items():
        if value and is_secret(("kafka", "options", name)):
            yield str(value)


def _is_part(value: str, secret: str) -> bool:
    return value == secret or (len(value) >= _PART_CHARACTERS and value in secret)
