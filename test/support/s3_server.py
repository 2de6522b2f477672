"""S3 servers for tests: moto, and versitygw where it is installed."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "bench"))
import lib  # noqa: E402

ACCESS_KEY, SECRET_KEY, REGION = "tests", "tests-secret", "us-east-1"
KINDS = ("moto", "versitygw")


class S3Server:
    """One server with one bucket, on a free port; a context. Ends the program (lib.skip) where the server is not installed."""

    def __init__(self, kind, bucket="lake"):
        venv = Path(sys.executable).parent.parent
        program = {"moto": venv / "bin" / "moto_server", "versitygw": venv.parent / "bin" / "versitygw"}[kind]
        if not program.exists():
            lib.skip(f"{kind} is not installed; scripts/deps.sh builds versitygw where there is a Go toolchain")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.folder = tempfile.mkdtemp(prefix="tidewater-s3-")
        # Over connections that are kept, versitygw 1.8.0 refuses what pyarrow sends to complete a multipart upload.
        arguments = {"moto": ["-H", "127.0.0.1", "-p", str(port)],
                     "versitygw": ["--port", f"127.0.0.1:{port}", "posix", self.folder]}[kind]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=os.environ | {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
        try:
            self._wait()
            import boto3
            boto3.client("s3", endpoint_url=self.endpoint, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
                         region_name=REGION).create_bucket(Bucket=bucket)
        except BaseException:
            self.close()
            raise

    def _wait(self):
        end = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args[0]} ended with {self.process.returncode}")
            try:
                urllib.request.urlopen(self.endpoint, timeout=1)
                return
            except urllib.error.HTTPError:
                return  # an answer, if only to say that the request is not signed
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def properties(self):
        """For PyIceberg, and for OpenStore."""
        return {"s3.endpoint": self.endpoint, "s3.region": REGION, "s3.access-key-id": ACCESS_KEY,
                "s3.secret-access-key": SECRET_KEY}

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
