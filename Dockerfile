# Text chat in a container:
#     docker build -t model-chat .
#     docker run -p 3000:3000 -v model-chat-data:/data -v ~/models:/models:ro model-chat \
#         'mephisto.blueprint.conversations_needed_string="blender/blender_90M:10"'
# Conversations and Mephisto's data are kept in the volume /data; models are read from /models.

FROM node:20-bookworm-slim AS page
WORKDIR /app
COPY frontend/package.json frontend/package-lock.json frontend/
RUN cd frontend && npm ci --no-audit --no-fund
COPY frontend frontend
RUN cd frontend && npm run --silent build
COPY router router
RUN cd router && npm ci --omit=dev --no-audit --no-fund

FROM python:3.11-slim-bookworm AS packages
WORKDIR /app
# The lock alone decides what is installed: a change of the code doesn't repeat this step.
COPY requirements.lock setup.py pyproject.toml __init__.py ./
COPY scripts/__init__.py scripts/setup_env.py scripts/
RUN python scripts/setup_env.py --only python

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 worker && mkdir -p /data /models && chown worker /data
COPY --from=page /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY . .
COPY --from=page /app/frontend/dist frontend/dist
COPY --from=page /app/router/node_modules router/node_modules
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
USER worker
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/healthz', timeout=4)"]
ENTRYPOINT ["python", "run.py", "mephisto.datapath=/data/mephisto", "mephisto.blueprint.chat_data_folder=/data/conversations", "mephisto.blueprint.base_model_folder=/models", "mephisto.architect.bind_address=0.0.0.0"]
