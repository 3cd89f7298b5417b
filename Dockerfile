# The service without a database and without its door; docs/docker.md says how to run it.
FROM python:3.11.12-slim-bookworm AS base

FROM base AS builder
COPY requirements-runtime.lock /
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        -r /requirements-runtime.lock

FROM base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FLASK_APP=run
WORKDIR /srv/madang
COPY --from=builder /opt/venv /opt/venv
COPY run.py ./
COPY settings settings
COPY service service
# Readable whatever the umask of the checkout was. The imports show that the lock is enough, and leave all that is
# imported compiled, the standard library too: the base image has it uncompiled, and later nobody may write but to `var`.
RUN chmod -R a+rX . \
    && python -c "import run, service.serve.api, service.serve.preparation, service.serve.streaming" \
    && python -c "import service.serve.launcher, service.worker.program, urllib.request" \
    && install -d -m 700 -o 10001 -g 10001 var && install -d -m 755 -o 10001 -g 10001 door
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# Without the proxies of the environment: they would be asked for 127.0.0.1 too.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib import request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=4)"]
CMD ["python", "run.py", "--no-door", "--host", "0.0.0.0"]
