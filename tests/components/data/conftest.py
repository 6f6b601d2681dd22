"""What the tests of data options share."""

import http.server
import threading

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _reachable(monkeypatch):
    """The tests' own servers are on this machine."""
    monkeypatch.delenv("RUNNER_OFFLINE", raising=False)


@pytest.fixture
def same_table():
    """Check of a standardised table against its source: affine maps of columns and a new order of rows keep all correlations."""

    def check(data, x, y):
        got_x = torch.cat([s.x for s in data.splits().values()]).double().numpy()
        got_y = torch.cat([s.y for s in data.splits().values()]).double().numpy()
        stack = lambda a, b: np.corrcoef(np.column_stack([a, b]), rowvar=False)
        assert len(got_x) == len(x)
        np.testing.assert_allclose(stack(got_x, got_y), stack(x, y), atol=1e-5)
        assert torch.allclose(data.train.x.mean(0), torch.zeros(x.shape[1]), atol=1e-5)
        assert torch.allclose(data.train.x.std(0), torch.ones(x.shape[1]), atol=1e-4)

    return check


@pytest.fixture
def server(tmp_path):
    """A web server of a folder on this machine: (folder, address). Files that end in .cut are promised longer than they are."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def do_GET(self):
            if self.path.endswith(".slow"):
                stop.wait(5)
                return
            if self.path.endswith(".cut"):
                body = (tmp_path / "served" / self.path.strip("/")).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(2 * len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            super().do_GET()

        def log_message(self, *args):
            pass

    stop = threading.Event()
    (tmp_path / "served").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield tmp_path / "served", f"http://127.0.0.1:{web.server_port}"
        stop.set()
        web.shutdown()
        thread.join()
