"""What a run says about its panel's money and API, below ``mephisto.provider``, and what a study costs there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf

from model_chat.configuration.flags import flag
from model_chat.crowd.money import fee_cents, hourly, percent_of, to_minor, written
from model_chat.crowd.panels import PROLIFIC_API_URL

PROVIDER = "mephisto.provider"
PROLIFIC = "prolific"
PANELS = {
    PROLIFIC: "Prolific",
    "connect": "CloudResearch Connect",
    "sona": "SONA",
    "panel": "the panel",
    "link": "a link of one's own",
}
"""Providers other than MTurk and mock, and what people call them."""
NUMBERS = ("fee_percent", "estimated_minutes")
"""Flags that are numbers; the others are texts."""
LEAST_HOURLY = {"GBP": 600, "USD": 800}
"""Prolific's least reward an hour, in pence and cents, measured by the median time
(https://researcher-help.prolific.com/hc/en-gb/articles/4407695146002-Prolific-s-payment-principles)."""


@dataclass
class PanelPayArgs:
    """Flags about money that every panel's provider has."""

    fee_percent: float | None = flag(
        None, "The panel's fee in percent of the reward; unset: the cost is said without it."
    )
    currency: str = flag("USD", "Currency of the reward: USD, GBP, EUR or another code.")
    estimated_minutes: float | None = flag(
        None, "Minutes that participants are told a conversation takes; for the hourly wage."
    )


@dataclass
class ProlificApiArgs(PanelPayArgs):
    """Flags about Prolific's API."""

    api_token_env: str | None = flag(
        None, "Environment variable with the token of Prolific's API, never the token itself."
    )
    api_url: str = flag(PROLIFIC_API_URL, "Address of Prolific's API.")
    study_id: str | None = flag(None, "Prolific's id of the study; for its places, its reward and the cost.")
    workspace_id: str | None = flag(None, "Prolific's id of the workspace that pays; for its balance.")
    blocked_group: str | None = flag(None, "Id of the participant group that workers whom you block are put into.")
    allowed_group: str | None = flag(None, "Id of the participant group that workers whom you invite are put into.")


@dataclass
class _OfProvider:
    """What comes before the flags in :class:`PanelPay`."""

    provider: str


@dataclass
class PanelPay(ProlificApiArgs, _OfProvider):
    """The same of one provider, read from a configuration; what is not given has its default."""

    @classmethod
    def of(cls, provider: str, args: Any) -> PanelPay:
        """Read the flags below ``mephisto.provider``, of a run that is to be launched or of one that was.

        Args:
            args: a mapping; values of a wrong type are taken for unset (:func:`faults_of` names them before a launch).
        """
        given: Mapping[str, Any] = args if isinstance(args, Mapping) else _container(args)
        read: dict[str, Any] = {name: _number(given.get(name)) for name in NUMBERS}
        texts = [one.name for one in fields(ProlificApiArgs) if one.name not in NUMBERS]
        read |= {name: str(given[name]) for name in texts if given.get(name)}
        return cls(provider, **read)

    @property
    def name(self) -> str:
        """What people call the platform."""
        return PANELS.get(self.provider, self.provider)


def _container(args: Any) -> Mapping[str, Any]:
    found = OmegaConf.to_container(args, throw_on_missing=False) if OmegaConf.is_config(args) else {}
    return {str(name): value for name, value in found.items() if value != "???"} if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def faults_of(provider: str, args: Any) -> list[str]:
    """Find what is wrong with the flags of :class:`PanelPayArgs` and :class:`ProlificApiArgs`; asks nobody."""
    if provider not in PANELS:
        return []
    from model_chat.crowd.prolific_api import address_fault, read_token

    given, faults = _container(args), []
    for name, least, example in (("fee_percent", 0.0, "30"), ("estimated_minutes", 0.1, "12")):
        value = given.get(name)
        number = _number(value)
        if value is not None and (number is None or number < least or number > 10_000):
            faults.append(f"{PROVIDER}.{name}: '{value}' can't be right; give a number such as {example}.")
    currency = given.get("currency")
    if currency is not None and not (len(str(currency)) == 3 and str(currency).isascii() and str(currency).isupper()):
        faults.append(f"{PROVIDER}.currency: '{currency}' is no currency; write its code, such as USD or GBP.")
    if given.get("api_token_env"):
        faults += read_token(f"{PROVIDER}.api_token_env", str(given["api_token_env"]))[1]
    if given.get("api_url"):
        fault = address_fault(f"{PROVIDER}.api_url", str(given["api_url"]))
        faults += [fault] if fault else []
    return faults


def reward_fault(provider: str, args: Any, reward: Any) -> str | None:
    """Say what is wrong with the reward of a panel's conversation; None if nothing is."""
    if provider not in PANELS:
        return None
    try:
        to_minor(reward, PanelPay.of(provider, args).currency)
    except ValueError as error:
        return f"mephisto.task.task_reward: {error}; write it like 1.50."
    return None


@dataclass(frozen=True)
class StudyCost:
    """What so many places of a study cost.

    Attributes:
        places: that are still to be filled.
        reward: hundredths of the currency for each.
    """

    places: int
    reward: int
    pay: PanelPay

    def rewards(self) -> int:
        """Hundredths that the participants get."""
        return self.places * self.reward

    def fee(self) -> int | None:
        """Hundredths that the platform gets; None where its fee is not known."""
        if self.pay.provider.startswith("mturk"):
            return self.places * fee_cents(self.reward)
        if self.pay.fee_percent is None:
            return None if self.pay.provider in (PROLIFIC, "connect", "panel") else 0
        return percent_of(self.rewards(), self.pay.fee_percent)

    def sentence(self) -> str:
        """The cost in one line."""
        currency, fee = self.pay.currency, self.fee()
        said = f"{self.places:,} places × {written(self.reward, currency)} = {written(self.rewards(), currency)}"
        if fee is None:
            return f"{said}, without the fee of {self.pay.name}, for {PROVIDER}.fee_percent is not set"
        if not fee:
            return said
        return f"{said}, with a fee of {written(fee, currency)}: {written(self.rewards() + fee, currency)}"


def wage_sentence(pay: PanelPay, reward: int, minutes: float) -> str:
    """Say what a reward is an hour, and whether that is less than the panel's minimum."""
    an_hour = hourly(reward, minutes)
    least = LEAST_HOURLY.get(pay.currency) if pay.provider == PROLIFIC else None
    said = f"{written(reward, pay.currency)} for {minutes:g} minutes is {written(an_hour, pay.currency)} an hour"
    if least is not None and an_hour < least:
        said += f", less than Prolific's minimum of {written(least, pay.currency)}"
    return said


@dataclass(frozen=True)
class Finished:
    """One conversation that is finished and to be paid.

    Attributes:
        seconds: it took; 0 where not known.
        paid: hundredths, reward and bonuses.
    """

    seconds: float
    paid: int


def so_far(pay: PanelPay, finished: Sequence[Finished]) -> str:
    """Say what the finished conversations took and are paid an hour, by their median time as Prolific measures it."""
    timed = [one for one in finished if one.seconds > 0]
    if not timed:
        return "no finished conversation whose time is known"
    minutes = statistics.median(one.seconds for one in timed) / 60
    average = round(statistics.fmean(one.paid for one in timed))
    an_hour = wage_sentence(pay, average, round(minutes, 1) or 0.1)
    return f"{len(timed):,} finished in {minutes:.1f} minutes (median); {an_hour}"
