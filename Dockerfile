# topicast in a container: one static binary, an unprivileged user, no shell.
#
#   docker build --build-arg VERSION=1.2.3 --tag topicast .
#   docker run --network host --volume ./topicast:/etc/topicast:ro topicast
#
# ./topicast is the folder with topicast.yaml in it. Mount the folder, not the file:
# editors replace a file by another, and a mount of the file goes on showing the old.
#
# Real multicast needs the host's network (or macvlan): what a container sends on
# a Docker bridge never leaves that bridge.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
ARG VERSION=
# Modules come from vendor/ where the tree has one, otherwise from the network.
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /root-fs/topicast ./cmd/topicast
# The certificates are for brokers with TLS, /tmp is for the configuration of the demo.
RUN mkdir -p /root-fs/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ \
 && mkdir -m 1777 /root-fs/tmp

FROM scratch
COPY --from=build /root-fs /
# Nothing topicast does needs a privilege. "nobody", by number: there is no /etc/passwd.
USER 65534:65534
# The status page, where web.listen opens it to more than the container itself.
# The control socket is /tmp/topicast/control.sock: docker exec NAME /topicast tap. The image
# has no HEALTHCHECK, since it also runs commands that are no bridge; docker-compose.yml has one.
ENV XDG_RUNTIME_DIR=/tmp
EXPOSE 9479
ENTRYPOINT ["/topicast"]
CMD ["run"]
