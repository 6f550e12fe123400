"""What to try once the demo is through. Pure."""

from __future__ import annotations


def advice(address: str, dataset: str, study: str, job: str, results: str) -> str:
    """Lines to paste into a shell, in the checkout's folder: each works as it stands."""
    user = study.rsplit("-", 1)[0]
    wanted = f"User={user}&FileName={dataset}&Epochs=4&LR=0.001&ImgSize=112&BatchSize=8"
    path = r"""sed -n 's/.*"FilePath":"\([^"]*\)".*/\1/p'"""
    return f"""\
Now try, here:
  eval "$(.venv/bin/kubeseg-local env)"       # then kubectl and helm use this cluster
  kubectl -n kubeseg get tj                   # all trainings
  kubectl -n kubeseg describe tj {job}
  # trains on, from where it stopped:
  kubectl -n kubeseg patch tj {job} --type merge -p '{{"spec":{{"training":{{"epochs":20}}}}}}'

The REST service, {address} (its description: {address}/openapi.json):
  call() {{ curl -sS --fail-with-body -H "Authorization: Bearer $(cat {results}/token)" "$@" && echo; }}
  call '{address}/modeles'
  call -X DELETE '{address}/modeles?ModelName=PAN'
  call -X POST '{address}/modeles?ModelName=PAN'
  call -X POST '{address}/study?{wanted}&Model=Unet&TestSize=0.2'
  call '{address}/study?ModelName={study}'
  call -X PUT '{address}/study?ModelName={study}&Epochs=3'
  # its first epoch takes a while:
  until call '{address}/checkstudy?ModelName={study}&Epoch=1'; do sleep 5; done
  path=$(call -X DELETE '{address}/study?ModelName={study}' | {path})
  [ -n "$path" ] && call -o model.pt "{address}/v1/files/$path?format=pt"

Your own pictures:  make demo DATA=folder        The end:  make down"""
