"""`scripts/bench link`: the link between tablets and the cloud, measured beside a plain grpc.aio stream."""
