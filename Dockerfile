# The environment of requirements.lock, with torch for the CPU: `docker build -t qaprune .`
# then `docker run qaprune make reproduce`, or as the image of a cluster's jobs.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home qaprune \
    && install -d -o qaprune /srv/qaprune
USER qaprune
WORKDIR /srv/qaprune
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1

# a layer of its own, which changes with the lock only
COPY --chown=qaprune requirements.lock .
RUN python -m venv .venv && .venv/bin/python -m pip install -r requirements.lock

COPY --chown=qaprune . .
RUN make install
ENV PATH=/srv/qaprune/.venv/bin:$PATH
CMD ["make"]
