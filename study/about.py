"""What a profile's file says of its questions and models, for beside every number from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from study.missing import PROFILES
from study.plan.profile import NQ, Profile, read_profile


def about_questions(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The sentences that a profile's file gives, by profile and name of the questions.

    Args:
        pairs: profile and name of the questions; those of which nothing has to be said, and
            profiles without a file under `profiles/`, are left out.

    Raises:
        SettingsError: the file is not a profile.
    """
    return _about(pairs, _of_questions)


def about_models(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The same by profile and name of the model: what sets a model apart from the profile's."""
    return _about(pairs, lambda profile, name: profile.others[name].about)


def _of_questions(profile: Profile, name: str) -> str:
    if name == NQ and profile.natural_questions is not None:
        return profile.natural_questions.about
    return profile.data[name].about


def _about(
    pairs: Iterable[tuple[str, str]], text_of: Callable[[Profile, str], str]
) -> dict[tuple[str, str], str]:
    found = {}
    for profile_name, name in dict.fromkeys(pairs):
        path = PROFILES / f"{profile_name}.yml"
        try:
            text = text_of(read_profile(path), name).strip() if path.is_file() else ""
        except KeyError:  # the profile has changed since, or has nothing of that name to say
            continue
        if text:
            found[profile_name, name] = text
    return found
