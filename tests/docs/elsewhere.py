"""Commands of pages that no test of their page types, since they are run elsewhere."""

from __future__ import annotations

MAKEFILE, SETUP = "Makefile", "scripts/setup_env.py"
RUN_ELSEWHERE = {
    "make lint": (".ci/run", " lint-python lint-page ", "CI's first command, in its two parts"),
    "make test": (".ci/run", "PAGE_IS_TESTED=1 test\n", "CI's second command; the page's own tests are in the first"),
    "make COVERAGE= test": (".ci/run", "make COVERAGE= PAGE_IS_TESTED=1 test\n", "CI's second command"),
    "make chaos": (
        MAKEFILE,
        'or chaos" tests/e2e tests/chaos ',
        "half an hour; 'make test' runs them in their short form",
    ),
    "MODEL_CHAT_FUZZ_EXAMPLES=200000 pytest tests/test_fuzz.py": (
        MAKEFILE,
        "not e2e and not slow",
        "hours; so with fewer",
    ),
    ".venv/bin/python -m pytest tests/serving -q": (MAKEFILE, "not e2e and not slow", "a part of it"),
    '.venv/bin/python -m pytest -m "not e2e and not slow and not chaos" -q': (
        MAKEFILE,
        '-m "not e2e and not slow and not chaos"',
        "the same",
    ),
    ".venv/bin/python -m pytest tests/e2e/test_browser.py -q": (
        MAKEFILE,
        '-m "e2e or slow or chaos" tests/e2e ',
        "a part of it",
    ),
    "cd frontend && npm test": (MAKEFILE, "cd frontend && npm run --silent test\n", "the same"),
    "npm test": (MAKEFILE, "cd frontend && npm run --silent test\n", "the same"),
    "npm run lint": (MAKEFILE, "npm run --silent lint", "'make lint' does"),
    "npm run typecheck": (MAKEFILE, "npm run --silent typecheck", "'make lint' does"),
    "npm ci": (SETUP, 'run("npm", "ci"', "the set-up does, from the network"),
    "npm run build": (SETUP, 'run("npm", "run", "--silent", "build"', "the set-up does"),
    "python scripts/make_demo_models.py": (MAKEFILE, "python scripts/make_demo_models.py\n", "'make test' does"),
    "python run.py": (MAKEFILE, "python run.py ", "'make run' does, which a test types"),
    "python run_image_chat.py": (
        "docs/image-chat.md",
        "python run_image_chat.py conf=my_study",
        "the same with a study of one's own, typed there",
    ),
    "make image": (
        MAKEFILE,
        "scripts/make_demo_models.py --image",
        "'make run' is typed; test_make_image_runs_what_its_page_types has its commands, which are typed one by one",
    ),
    "cd frontend && npm run dev": ("frontend/README.md", "`npm run dev`", "the same, typed there"),
    "python scripts/new_study.py my_study": (
        "docs/installing.md",
        "python -m model_chat.scripts.new_study my_study",
        "the same command of an installed package, typed there; with more flags the README's is",
    ),
    "python benchmarks/many_workers.py --workers 64": (
        "docs/performance.md",
        "python benchmarks/many_workers.py --workers 8,64,128",
        "the same with another number, and a test takes its own",
    ),
    "python run.py conf=my_study mephisto.architect.public_url=https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        'start_task(f"mephisto.architect.public_url={ports.origin}/pets/"',
        "with Caddy and Chromium",
    ),
    "python run.py conf=pets   mephisto.architect.port=3000 mephisto.architect.public_url=https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        "pets = start_task(",
        "with Caddy and Chromium",
    ),
    "python run.py conf=plants mephisto.architect.port=3001 "
    "mephisto.architect.public_url=https://study.example.org/plants/": (
        "tests/e2e/test_self_hosting.py",
        "plants = start_task(",
        "beside the one before",
    ),
    "python scripts/simulate_workers.py --workers 2 --public-url https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        '"--workers", "2", "--public-url", public',
        "with a run that has this address",
    ),
    "python run.py conf=prolific mephisto.provider.codes.complete=C1DONE88": (
        "tests/e2e/test_panels.py",
        '"conf=prolific"',
        "over the wire, with a participant who comes",
    ),
    "python run.py conf=link mephisto.provider.codes.complete=THANK-YOU-42": (
        "tests/e2e/test_panels.py",
        '"conf=link"',
        "likewise",
    ),
    "python run.py conf=my_study mephisto.blueprint.serving=ray": (
        "tests/e2e/test_ray.py",
        "mephisto.blueprint.serving=ray",
        "over the wire, with more to see",
    ),
    "python benchmarks/ray_overhead.py": (
        "tests/serving/test_ray_serving.py",
        '"benchmarks/ray_overhead.py"',
        "on the Ray of the tests there",
    ),
    "python run.py conf=my_study mephisto.blueprint.record_authenticity=true": (
        "tests/e2e/test_authenticity_in_browser.py",
        '"mephisto.blueprint.record_authenticity=true"',
        "with Chromium",
    ),
    "python analysis/compile_results.py --conf my_study --output-folder results --max-pasted-share 0.5": (
        "tests/analysis/test_authenticity.py",
        '"max_pasted_share": 1.0',
        "with every threshold",
    ),
}
"""Line -> where it is run instead, what stands there, and why. CI runs all of 'make test' and 'make lint'."""
