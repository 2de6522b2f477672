#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>
#include "tidewater/cli/serve.h"

int main(int argc, char** argv) {
  CLI::App app("Tidewater: change streams into SQL views and Iceberg tables", "tidewater");
  app.require_subcommand(1);

  auto* version = app.add_subcommand("version", "Print the version");

  tidewater::cli::ServeOptions options;
  int port = 0, http_port = 0;
  auto* serve = app.add_subcommand("serve", "Run the server");
  serve
      ->add_option("--state", options.state,
                   "Where everything is kept: DIR, or s3://BUCKET/PREFIX with AWS_* variables")
      ->required();
  auto* listen =
      serve->add_option("--listen", options.listen, "HOST:PORT for PostgreSQL clients")->capture_default_str();
  auto* http = serve->add_option("--http", options.http, "HOST:PORT for metrics and the Iceberg REST catalog")
                   ->capture_default_str();
  serve->add_option("--port", port, "The same as --listen 127.0.0.1:PORT")
      ->excludes(listen)
      ->check(CLI::Range(0, 65535));
  serve->add_option("--http-port", http_port, "The same as --http 127.0.0.1:PORT")
      ->excludes(http)
      ->check(CLI::Range(0, 65535));
  serve->add_option("--workers", options.workers, "Threads that run the dataflow")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  serve
      ->add_option("--memory", options.memory_bytes,
                   "Memory budget of the process, for example 4GB: rows beyond it go to the scratch directory, and "
                   "ad-hoc queries get a quarter of it (default: 70% of the machine's or the control group's memory)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{256} << 20, uint64_t{1} << 60));
  serve->add_option("--scratch", options.scratch_directory,
                    "Local directory for what leaves memory (default: STATE/scratch, or the system's for a bucket)");
  serve->add_option("--freeze", options.freeze,
                    "Materialized view to be frozen before anything is stepped; may be given several times");
  serve->add_option("--checkpoint-interval-ms", options.checkpoint_interval_ms, "Time between checkpoints")
      ->check(CLI::Range(1, 3'600'000))
      ->capture_default_str();
  serve->add_option("--connections", options.connections_max, "Most PostgreSQL clients at a time")
      ->capture_default_str();
  serve->add_option("--password-file", options.password_file,
                    "First line: the password, or its SCRAM-SHA-256 verifier (else TIDEWATER_PASSWORD)");
  serve->add_option("--http-token-file", options.http_token_file,
                    "First line: the bearer token for HTTP (else TIDEWATER_HTTP_TOKEN)");
  auto* certificate = serve->add_option("--tls-cert", options.tls_certificate_file,
                                        "PEM file: certificate chain for PostgreSQL clients");
  auto* key = serve->add_option("--tls-key", options.tls_key_file, "PEM file: its key");
  certificate->needs(key);
  key->needs(certificate);
  serve->add_option("--log-level", options.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();

  CLI11_PARSE(app, argc, argv);
  if (*version) {
    std::puts("tidewater " TIDEWATER_VERSION);
    return 0;
  }
  if (serve->count("--port")) options.listen = "127.0.0.1:" + std::to_string(port);
  if (serve->count("--http-port")) options.http = "127.0.0.1:" + std::to_string(http_port);
  return tidewater::cli::Serve(options);
}
