# One image for cloud and gateway; the command chooses. The till's daemon runs on the till, without containers.
FROM python:3.11-slim AS build
WORKDIR /opt/gipos
RUN python -m venv /opt/environment
COPY requirements.lock ./
RUN /opt/environment/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary=:all: -r requirements.lock
COPY protos ./protos
COPY scripts ./scripts
RUN /opt/environment/bin/python scripts/build_protos.py
COPY kernel ./kernel
COPY cloud ./cloud
COPY gateway_rest ./gateway_rest
COPY host ./host
COPY docs ./docs

FROM python:3.11-slim
# The cloud's secret key and the checkpoints of its audit log stay in /var/lib/gipos: keep it on a volume, and back it up.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gipos \
    && install --directory --owner=gipos --mode=0700 /var/lib/gipos
COPY --from=build /opt /opt
ENV PATH=/opt/environment/bin:$PATH \
    PYTHONPATH=/opt/gipos:/opt/gipos/protos \
    PYTHONUNBUFFERED=1 \
    GIPOS_DATA_DIR=/var/lib/gipos
WORKDIR /opt/gipos
USER gipos
EXPOSE 8080 8081 8082 8083
CMD ["python", "-m", "cloud", "serve", "--host", "0.0.0.0", "--port", "8081"]
