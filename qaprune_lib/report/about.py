"""What has to be said of a profile's questions beside every number that comes from them."""

from __future__ import annotations

from collections.abc import Iterable

from qaprune_lib.experiment.profile import NQ, read_profile
from qaprune_lib.report.missing import PROFILES


def about_questions(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The sentences that a profile's file gives, by profile and name of the questions.

    Args:
        pairs: profile and name of the questions; those of which nothing has to be said, and
            profiles without a file under `profiles/`, are left out.

    Raises:
        SettingsError: the file is not a profile.
    """
    found = {}
    for profile_name, data in dict.fromkeys(pairs):
        path = PROFILES / f"{profile_name}.yml"
        if not path.is_file():
            continue
        profile = read_profile(path)
        settings = profile.natural_questions if data == NQ else profile.data.get(data)
        if settings is not None and settings.about:
            found[profile_name, data] = settings.about.strip()
    return found
