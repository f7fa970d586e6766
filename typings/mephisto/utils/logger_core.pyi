import logging

loggers: dict[str, logging.Logger]

def set_mephisto_log_level(verbose: bool | None = None, level: str | None = None) -> None: ...
