"""`python -m host`: cloud and gateway in one process, which spares every REST request the way over gRPC."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    from gateway_rest.__main__ import Unstartable, add_options, prepared

    parser = argparse.ArgumentParser(prog="python -m host", description="Cloud and gateway in one process: REST and gRPC.")
    add_options(parser)
    parser.add_argument("--grpc-host", help="address for gRPC, if another one than for REST")
    parser.add_argument("--grpc-port", type=int, default=8081, help="port for gRPC: services elsewhere (default 8081)")
    parser.add_argument("--link-port", type=int, help="port for tills, with mutual TLS (default: one above --grpc-port)")
    parser.add_argument("--enrol-port", type=int, help="port with TLS, where tablets pair (default: two above --grpc-port)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}

    # After --help, which need not load the world.
    import uvloop
    from sqlalchemy.exc import DatabaseError, DBAPIError

    from cloud import server
    from cloud.platform import database, telemetry
    from cloud.platform.cluster import DatabaseFailed
    from cloud.platform.keyring import KeysUnusable
    from cloud.settings import Settings
    from gateway_rest import logs
    from host import serving

    logs.share(telemetry.configure("host"))
    grpc_host, grpc_port = given.pop("grpc_host", ""), given.pop("grpc_port")
    tls = server.tls_ports(grpc_port, given.pop("link_port", None), given.pop("enrol_port", None))
    settings = Settings()
    try:
        rest, listener = prepared(given)
        with listener:
            ports = serving.Ports(grpc_port, *tls)
            uvloop.run(serving.serve(settings, rest, listener, grpc_host=grpc_host or rest.host, ports=ports))
    except (Unstartable, server.PortTaken, server.BackgroundEnded, DatabaseFailed, KeysUnusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (DBAPIError, DatabaseError) as error:
        sys.stderr.write(database.complaint(settings.database_url, settings.data_dir / "postgres", error) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
