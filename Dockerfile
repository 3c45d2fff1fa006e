# The example app (examples/app.py) beside a MongoDB of yours: MINIBATCH_MONGO_URL says where that is.
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 minibatch
WORKDIR /app

COPY pyproject.toml setup.py README.md LICENSE ./
COPY minibatch minibatch
RUN pip install --no-cache-dir '.[apps]'

COPY examples/app.py app.py

USER minibatch
ENV HOST=0.0.0.0 PORT=5000 PYTHONUNBUFFERED=1
EXPOSE 5000

# /health answers 503 when the consumer or MongoDB is not well; urlopen raises then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=4)"]

# SIGTERM, which "docker stop" sends, lets running windows finish.
CMD ["python", "app.py"]
