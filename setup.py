"""Package description. The repository's root is the package ``model_chat`` (see ``ARCHITECTURE.md``).

What to install is pinned in ``requirements.lock``: mephisto and parlai declare dependency ranges from 2022 that no
resolver can satisfy together on a supported Python, so ``scripts/setup_env.py`` installs the lock with ``--no-deps``.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
NOT_SHIPPED = ("tests", "tests.*", "benchmarks", "benchmarks.*", "frontend", "frontend.*", "build", "build.*")
PACKAGES = find_packages(where=str(ROOT), exclude=NOT_SHIPPED)

setup(
    name="model-chat",
    version="0.1.0",
    description="Have crowdworkers chat with dialogue models, annotate each reply and rate the conversation.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    package_dir={"model_chat": "."},
    packages=["model_chat", *(f"model_chat.{package}" for package in PACKAGES)],
    package_data={
        "model_chat": [
            "conf/*.yaml",
            "task_config/*",
            "task_config/dummy/*",
            "analysis/templates/*",
            "quality/*.txt",
            "py.typed",
            "requirements.lock",
            "frontend/dist/**/*",
            "router/*.js",
            "router/package*.json",
        ]
    },
    extras_require={"scale": ["dask", "distributed"], "resnet": ["torchvision"], "ray": ["ray[serve]>=2.60"]},
)
