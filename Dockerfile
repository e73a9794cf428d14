# The control plane as one image: the dashboard, the server and the guests that machines download.
# `make image` builds it. Other builders may pass VERSION, COMMIT and COMMITTED; Railway's commit is read by itself.
# BASE_NODE and BASE_GO are public images, pinned by version. They are not pinned by digest, because the machine that
# wrote this file could reach no registry: add @sha256:… when you first pull them.
ARG BASE_NODE=docker.io/library/node:24.11.0-slim
ARG BASE_GO=docker.io/library/golang:1.27.3

FROM --platform=$BUILDPLATFORM ${BASE_NODE} AS dashboard
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --loglevel=error
COPY .gitignore /src/
COPY adapters/httpapi/api/openapi.json /src/adapters/httpapi/api/
COPY web ./
RUN npm run --silent build

FROM --platform=$BUILDPLATFORM ${BASE_GO} AS programs
WORKDIR /src
ENV GOTOOLCHAIN=local
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=dashboard /src/web/dist web/dist
ARG TARGETARCH
ARG VERSION
ARG COMMIT
ARG COMMITTED
ARG RAILWAY_GIT_COMMIT_SHA
RUN commit=${COMMIT:-$RAILWAY_GIT_COMMIT_SHA}; version=${VERSION:-$(echo "${commit:-dev}" | cut -c1-12)}; \
  make --no-print-directory server guests GOTOOLCHAIN=local GOARCH="${TARGETARCH:-$(go env GOARCH)}" VERSION="$version" COMMIT="$commit" COMMITTED="$COMMITTED" && \
  mkdir -p /out/data /out/app && cp bin/cloudbot bin/cloudbot-guest-linux-* /out/app/ && chmod 555 /out/app/*

# No shell, no package manager and no file that the server may write, except in /data. Railway refuses images that
# declare a VOLUME, so this one does not: mount one at /data.
FROM scratch
COPY --from=programs /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=programs /out/app /app
COPY --from=programs --chown=65532:65532 /out/data /data
USER 65532:65532
ENV ENVIRONMENT=production DATA_DIR=/data PORT=8000
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/app/cloudbot", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/app/cloudbot"]
CMD ["serve"]
