"""Before a run whose participants come from a panel: what it costs there, and whether the study on Prolific fits it."""

from __future__ import annotations

from typing import Any

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
from model_chat.crowd.prolific import open_client
from model_chat.crowd.prolific_api import NoAnswerError, RefusedByProlificError, Study
from model_chat.errors import ConfigurationError


def pay_faults(cfg: Any) -> list[str]:
    """Find what is wrong with the flags about a panel's money and API; asks nobody.

    Args:
        cfg: the whole configuration.
    """
    provider = cfg.mephisto.provider
    faults = faults_of(provider._provider_type, provider)
    reward = reward_fault(provider._provider_type, provider, cfg.mephisto.task.task_reward)
    return [*faults, reward] if reward else faults


def announce_cost(cfg: Any, units: int, console: Any) -> None:
    """Print what a run costs on its panel, and what its reward is an hour; nothing for other providers.

    Args:
        cfg: the whole configuration, without faults (:func:`pay_faults`).
        units: conversations that are offered.
        console: to print to.

    Raises:
        ConfigurationError: Prolific does not accept the token, or has no such study.
    """
    provider = cfg.mephisto.provider._provider_type
    if provider not in PANELS:
        return
    pay = PanelPay.of(provider, cfg.mephisto.provider)
    for sentence in cost_sentences(pay, to_minor(cfg.mephisto.task.task_reward, pay.currency), units):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def cost_sentences(pay: PanelPay, reward: int, places: int, token_variable: str | None = None) -> list[str]:
    """Say what so many places cost, what the reward is an hour, and where the study on Prolific differs.

    Args:
        pay: the run's flags.
        reward: hundredths of the currency for each place.
        places: that are still to be filled.
        token_variable: the environment variable with the token of Prolific's API, in place of the run's.

    Raises:
        ConfigurationError: Prolific does not accept the token, or has no such study.
    """
    if not reward:
        return [f"Cost: nothing, for mephisto.task.task_reward is {written(0, pay.currency)}."]
    said = [f"Cost: {StudyCost(places, reward, pay).sentence()}."]
    minutes = pay.estimated_minutes
    if pay.provider == PROLIFIC and pay.study_id and (pay.api_token_env or token_variable):
        client = open_client(pay, token_variable)
        try:
            study = client.study(pay.study_id)
        except RefusedByProlificError as error:
            if error.status is not None:
                raise ConfigurationError(f"{PROVIDER}.study_id: {error}.") from error
            said.append(f"! {error}.")
        except NoAnswerError as error:
            said.append(f"! {error}.")
        else:
            said += [f"! {difference}" for difference in differences(study, pay, reward, places)]
            minutes = study.estimated_completion_time or minutes
        finally:
            client.close()
    if minutes:
        said.append(f"Reward: {wage_sentence(pay, reward, minutes)}.")
    return said


def differences(study: Study, pay: PanelPay, reward: int, places: int) -> list[str]:
    """Say where a study on Prolific differs from what a run's flags say.

    Args:
        study: Prolific's.
        pay: the run's flags.
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
