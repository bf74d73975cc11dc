import subprocess, time, signal, os, httpx, pathlib
from running import COMMAND
from on_disk import child_environment, ROOT
from tests.service.agents import quiet_port
def test_try(postgres_url, tmp_path):
    def go(env, port, wait=6, sig=signal.SIGTERM):
        p=subprocess.Popen([*COMMAND,"--base-dir",str(tmp_path/"base"),"serve","--port",str(port)],cwd=ROOT,env=child_environment({"TELEMETRY_DATABASE_URL":postgres_url,"TELEMETRY_API_WORKERS":"2","HOME":str(tmp_path/"home"),**env}),stdout=subprocess.PIPE,stderr=subprocess.STDOUT,text=True)
        time.sleep(wait)
        try: print("version", httpx.get(f"http://127.0.0.1:{port}/health").text)
        except Exception as e: print(repr(e))
        print("children", subprocess.run(["pgrep","-P",str(p.pid)],capture_output=True,text=True).stdout.split())
        print([str(x) for x in tmp_path.rglob("*")])
        p.send_signal(sig)
        try: out,_=p.communicate(timeout=30)
        except subprocess.TimeoutExpired: p.kill(); out,_=p.communicate()
        print("rc",p.returncode); print(out[-3000:]); print("=====")
    go({}, quiet_port())
    go({}, quiet_port(), sig=signal.SIGINT)
    go({"TELEMETRY_API_AUTH_ENABLED":"true"}, quiet_port())
    import socket
    s=socket.create_server(("127.0.0.1",0)); go({}, s.getsockname()[1], wait=4)
