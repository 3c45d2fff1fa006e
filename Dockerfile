# The example app (examples/app.py) beside a MongoDB of yours: MINIBATCH_MONGO_URL says where that is.
#
#   docker build -t visits .
#   docker run --env MINIBATCH_MONGO_URL --publish 127.0.0.1:5000:5000 visits              pages and consumer in one
#   docker run --env MINIBATCH_MONGO_URL visits python app.py consumer                     a consumer by itself
FROM python:3.12-slim AS build
RUN python -m venv /venv
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY minibatch minibatch
RUN /venv/bin/pip install --no-cache-dir '.[apps]'

FROM python:3.12-slim
RUN groupadd --gid 10001 minibatch && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin minibatch
COPY --from=build /venv /venv
WORKDIR /app
COPY examples/app.py app.py

# By number, so that Kubernetes can see that it is not root. Nothing is written: the file system may be read-only.
USER 10001:10001
ENV PATH=/venv/bin:$PATH HOST=0.0.0.0 PORT=5000 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 5000

# /health answers 503 when the consumer or MongoDB is not well; urlopen raises then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=4)"]

# SIGTERM, which "docker stop" sends, lets running windows finish.
CMD ["python", "app.py"]
