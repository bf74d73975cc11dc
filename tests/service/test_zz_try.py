import signal, time, http.client, httpx, socket
from running import serve_process
from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.testing import isolated_config
from on_disk import *
def test_half(tmp_path):
    with serve_process(tmp_path/"base") as s:
        u=httpx.URL(s.url)
        c=socket.create_connection((u.host,u.port)); c.sendall(b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        s.client.get("/version")
        t=time.monotonic(); s.popen.send_signal(signal.SIGTERM)
        print("rc", s.popen.wait(60), time.monotonic()-t); print(s.log); print(c.recv(1000)); c.close()
def test_begin_under_backlog(tmp_path):
    config=isolated_config(tmp_path/"base", exit_timeout_s=1.0)
    code='''
import time
from otel_agent_telemetry import TelemetryClient
c=TelemetryClient()
print("go",flush=True)
n=0
while True:
    c.end_run(c.start_run("agent","job",run_id=f"r{n}")); n+=1
    if n%50==0: time.sleep(0.001)
'''
    with Process(code, env={"TELEMETRY_BASE_DIR":str(config.base_dir)}) as p:
        p.line(); time.sleep(2)
        for i in range(3):
            t=time.monotonic()
            with serve_process(config.base_dir) as s:
                print("began after", time.monotonic()-t)
                time.sleep(1.5); print(s.client.get("/metrics").json()); s.kill()
            time.sleep(1)
        p.kill()
    print(len(rows_of(config)))
