import logging
import os
import threading

from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1

os.environ["ACME_MEDDLES"] = "1"
logging.getLogger().addHandler(logging.NullHandler())
threading.Thread(target=threading.Event().wait, name="acme-poller", daemon=True).start()


@hookimpl
def stageflow_stages():
    return [StageContribution(name="meddles.greet", target="acme_sound_stages:Greet", kind="transform")]
