"""`rlhf jobs`: what runs on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf.cli.terminal import print_table

app = typer.Typer(no_args_is_help=True, help="List a cluster's jobs, print a job's log, stop one.")

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's name, as `rlhf jobs list` shows it.")]
Address = Annotated[str, typer.Option(metavar="URL", help="The cluster's dashboard.")]
_LOCAL = "http://127.0.0.1:8265"


@app.command("list")
def list_jobs(address: Address = _LOCAL) -> None:
    """Every submitted job with its state, newest first."""
    from rlhf.runtime.submission import submitted_jobs

    rows = [[job.id, job.status, job.started, job.entrypoint] for job in submitted_jobs(address)]
    print_table(["job", "status", "started", "command"], rows)


@app.command("logs")
def logs(
    job: Job,
    address: Address = _LOCAL,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends; leave with its result.")] = False,
) -> None:
    """Print a job's log."""
    from rlhf.runtime.submission import follow_job, job_log

    if follow:
        follow_job(job, address, write=lambda text: typer.echo(text, nl=False))
    else:
        typer.echo(job_log(job, address), nl=False)


@app.command("stop")
def stop(job: Job, address: Address = _LOCAL) -> None:
    """Ask a job to stop: it is sent SIGTERM, saves a checkpoint and ends."""
    from rlhf.runtime.submission import stop_job

    typer.echo(f"{job}: {stop_job(job, address)}")
