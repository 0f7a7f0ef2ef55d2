"""HTTP and JSON to gRPC and back, by the google.api.http rules of the descriptor file. Knows no business and no route by hand."""
