"""Before a run whose participants come from a panel: what it costs there, and whether the study on Prolific fits it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from model_chat.compat.terminal import print_plain
from model_chat.crowd.money import to_minor, written
from model_chat.crowd.panel_pay import (
    PANELS,
    PROLIFIC,
    PROVIDER,
    PanelPay,
    StudyCost,
    faults_of,
    reward_fault,
    wage_sentence,
)
from model_chat.errors import ConfigurationError

if TYPE_CHECKING:
    from model_chat.crowd.prolific_api import ProlificClient
    from model_chat.crowd.prolific_models import Balance, Study

TOO_MANY = 429
"""The HTTP status of a server that has too much to do."""


def pay_faults(cfg: Any) -> list[str]:
    """Find what is wrong with the flags about a panel's money and API; asks nobody."""
    provider = cfg.mephisto.provider
    faults = faults_of(provider._provider_type, provider)
    reward = reward_fault(provider._provider_type, provider, cfg.mephisto.task.task_reward)
    return [*faults, reward] if reward else faults


def announce_cost(cfg: Any, units: int, console: Any) -> None:
    """Print what a run costs on its panel, and what its reward is an hour; nothing for other providers.

    Args:
        cfg: the whole configuration, without faults (:func:`pay_faults`).

    Raises:
        ConfigurationError: Prolific does not accept the token, or has no such study or workspace.
    """
    provider = cfg.mephisto.provider._provider_type
    if provider not in PANELS:
        return
    pay = PanelPay.of(provider, cfg.mephisto.provider)
    for sentence in cost_sentences(pay, to_minor(cfg.mephisto.task.task_reward, pay.currency), units):
        print_plain(console, sentence)


def cost_sentences(pay: PanelPay, reward: int, places: int, token_variable: str | None = None) -> list[str]:
    """Say what so many places cost, what the reward is an hour, and where the study on Prolific differs.

    Args:
        reward: hundredths of the currency for each place.
        token_variable: the environment variable with the token of Prolific's API, in place of the run's.

    Raises:
        ConfigurationError: Prolific does not accept the token, or has no such study or workspace.
    """
    if not reward:
        return [f"Cost: nothing, for mephisto.task.task_reward is {written(0, pay.currency)}."]
    cost = StudyCost(places, reward, pay)
    said = [f"Cost: {cost.sentence()}."]
    minutes = pay.estimated_minutes
    if pay.provider == PROLIFIC and (pay.api_token_env or token_variable):
        from model_chat.crowd.prolific import open_client
        from model_chat.crowd.prolific_api import ProlificError, RefusedByProlificError

        with closing(open_client(pay, token_variable)) as client:
            try:
                study = _ask(client, pay)
                balance = None if pay.workspace_id is None else client.balance(pay.workspace_id)
            except ProlificError as error:
                if error.status is not None and isinstance(error, RefusedByProlificError) and error.status != TOO_MANY:
                    raise ConfigurationError(f"{PROVIDER}: {error}; correct what is named there.") from error
                said.append(f"! {error}.")
            else:
                if study is not None:
                    said += [f"! {difference}" for difference in differences(study, pay, reward, places)]
                    minutes = study.estimated_completion_time or minutes
                if balance is not None:
                    said.append(_balance_sentence(balance, cost))
    if minutes:
        said.append(f"Reward: {wage_sentence(pay, reward, minutes)}.")
    return said


def _ask(client: ProlificClient, pay: PanelPay) -> Study | None:
    """Return the study; without one, only see whether the token is accepted."""
    if pay.study_id is not None:
        return client.study(pay.study_id)
    client.check_token()
    return None


def _balance_sentence(balance: Balance, cost: StudyCost) -> str:
    """Say what the workspace can spend, and whether that is less than the cost as far as that is known."""
    said = f"The workspace on Prolific can spend {written(balance.available_balance, balance.currency_code)}"
    total = cost.rewards() + (cost.fee() or 0)
    if balance.currency_code == cost.pay.currency and balance.available_balance < total:
        return f"! {said}, less than the cost; if the study is not published yet, add money first."
    return f"{said}."


def differences(study: Study, pay: PanelPay, reward: int, places: int) -> list[str]:
    """Say where a study on Prolific differs from what a run's flags say.

    Args:
        reward: hundredths of the currency, by the run.
        places: conversations that the run still needs.
    """
    found = []
    currency = study.currency or pay.currency
    if currency != pay.currency:
        found.append(f"The study pays in {currency}, and {PROVIDER}.currency is {pay.currency}.")
    elif study.reward != reward:
        found.append(
            f"The study's reward on Prolific is {written(study.reward, currency)}, and mephisto.task.task_reward is "
            f"{written(reward, currency)}."
        )
    left = study.total_available_places - (study.places_taken or 0)
    if left > places:
        found.append(
            f"The study has {left} places left on Prolific, and the run needs {places} conversations: who comes last finds "
            "no work. Ask for more conversations."
        )
    elif left < places:
        found.append(
            f"The study has {left} places left on Prolific, and the run needs {places} conversations; "
            "'manage_workers.py top-up' gives it more."
        )
    return found
