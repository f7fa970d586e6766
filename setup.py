"""Package description. The repository's root is the package ``model_chat`` (see ``ARCHITECTURE.md``).

What to install is pinned in ``requirements.lock``: mephisto and parlai declare dependency ranges from 2022 that no
resolver can satisfy together on a supported Python, so ``scripts/setup_env.py`` installs the lock with ``--no-deps``.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
NOT_SHIPPED = ("tests", "tests.*", "benchmarks", "benchmarks.*", "frontend", "frontend.*", "build", "build.*")
PACKAGES = find_packages(where=str(ROOT), exclude=NOT_SHIPPED)

# What the modules import themselves, but for mephisto and parlai, whose declared ranges of 2022 fit no supported Python:
# 'python -m model_chat.scripts.setup_env' installs these two, and what they need, from the lock (docs/installing.md).
RUN_TIME = [
    "boto3>=1.40",
    "cryptography>=44",
    "h11>=0.16",
    "httpcore>=1.0.9",
    "httpx>=0.28",
    "huggingface-hub>=2",
    "hydra-core>=1.3,<1.4",
    "idna>=3.10",
    "jinja2>=3.1",
    "krippendorff>=0.9",
    "markupsafe>=3",
    "numpy>=2.2",
    "omegaconf>=2.3,<2.4",
    "orjson>=3.11",
    "pandas>=3",
    "pillow>=12",
    "prometheus-client>=0.22",
    "psutil>=7",
    "pyarrow>=24",
    "pydantic>=2.12",
    "pyyaml>=6",
    "regex>=2026.1",
    "requests>=2.32",
    "rich>=14",
    "safetensors>=0.7",
    "scipy>=1.16",
    "starlette>=1",
    "torch>=2.9",
    "transformers>=5",
    "typing-extensions>=4.15",
    "uvicorn>=0.40",
    "websockets>=15",
]

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
            "exports/templates/*",
            "quality/*.txt",
            "preview/page/*.js",
            "py.typed",
            "requirements.lock",
            "frontend/dist/**/*",
            "frontend/src/texts/*.json",
            "instruments/*.yaml",
            "router/*.js",
            "mephisto_task/*.js",
            "router/package*.json",
        ]
    },
    install_requires=RUN_TIME,
    extras_require={"scale": ["dask", "distributed"], "resnet": ["torchvision"], "ray": ["ray[serve]>=2.60"]},
)
