"""The loop of a worker: a job per line in, one JSON line with its seconds out. Runs in the opponent's environment."""

import json
import resource
import sys
import time


def split(data, kind, name):
    """One array per row of ``train`` or ``query``, out of the rows behind one another."""
    ends = data[f"{kind}_lengths"].cumsum()
    return [data[f"{kind}_{name}"][end - n : end] for end, n in zip(ends, data[f"{kind}_lengths"])]


def serve(jobs):
    """Run jobs by name until the input ends. Seconds are wall-clock; ``cpu`` is processor time of this process."""
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        try:
            jobs[line.strip()]()
            answer = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
            answer["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), flush=True)
