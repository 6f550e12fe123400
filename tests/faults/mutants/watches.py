"""The operator's own watches: where they begin and go on, and what they take in and drop."""

from functools import partial

from tests.faults.mutate import Mutant

_watches = partial(Mutant, harness="watches")

MUTANTS = (
    # Where a watch begins, and goes on.
    _watches(
        "what-is-too-old-is-asked-for-again",
        "watching",
        "error.code not in _PASSING or (self._failures + 1) % _PATIENT_FOR == 0:\n",
        "error.code not in {*_PASSING, 410}:\n",
    ),
    _watches(
        "bookmarks-move-nothing-on",
        "watching",
        '                self._version = raw["metadata"]["resourceVersion"]\n',
        '                if event["type"] != "BOOKMARK":\n'
        '                    self._version = raw["metadata"]["resourceVersion"]\n',
    ),
    _watches(
        "watches-begin-from-nowhere",
        "watching",
        "                    self._version = None\n",
        '                    self._version = "0"\n',
    ),
    _watches(
        "an-end-is-the-end",
        "watching",
        "                await self._follow()\n",
        "                await self._follow()\n                return\n",
    ),
    _watches(
        "lost-connections-end-a-watch",
        "watching",
        "                self._failed(0, error)\n",
        "                self._failed(0, error)\n                return\n",
    ),
    # What comes over the wire.
    _watches(
        "silence-is-waited-for",
        "client",
        "connect=CONNECT, sock_read=silence)",
        "connect=CONNECT, sock_read=None)",
    ),
    _watches(
        "rests-of-chunks-are-thrown-away",
        "client",
        "(rest + chunk).split",
        "chunk.split",
    ),
    _watches(
        "only-the-first-page-is-read",
        "client",
        "            if not token:\n                return\n",
        "            return\n",
    ),
    _watches(
        "garbage-is-an-empty-list",
        "client",
        "    if not isinstance(content, dict):\n",
        "    if not isinstance(content, dict):\n        return {}\n",
    ),
    # What is taken in, and what is dropped.
    _watches(
        "ends-are-changes",
        "watching",
        'deleted=event["type"] == "DELETED")',
        "deleted=False)",
    ),
    _watches(
        "lists-drop-nothing",
        "listing",
        "        if one.uid not in present and",
        "        if not one.uid and",
    ),
    _watches(
        "lists-drop-what-is-newer",
        "listing",
        "not (elsewhere or newer):\n",
        "not elsewhere:\n",
    ),
    _watches(
        "old-versions-replace-new-ones",
        "store",
        "    return 0 <= version_number(new) <= version_number(known)\n",
        "    return 0 <= version_number(new) == version_number(known)\n",
    ),
    _watches(
        "what-wanders-is-in-two-places",
        "watched",
        "        if before is not None and before != key:\n",
        "        if before is not None and key is None:\n",
    ),
    _watches(
        "live-reads-move-pods",
        "store",
        " or self._keys.get(pod.uid, key) != key:\n",
        ":\n",
    ),
    _watches(
        "news-is-kept-to-oneself",
        "watched",
        "        if key is not None and news:\n",
        "        if key is not None and news and not deleted:\n",
    ),
    _watches(
        "drops-are-kept-to-oneself",
        "listing",
        "    if dropped:\n",
        "    if dropped and not isinstance(one, Child):\n",
    ),
    _watches(
        "live-reads-drop-what-has-come",
        "observe",
        "store.drop_pod(key, pod, first)",
        "store.drop_pod(key, pod, pod.version)",
    ),
    _watches(
        "two-lists-at-a-time",
        "listing",
        "    async with intake.lists[kind.plural, namespace]:\n",
        "    if True:\n",
    ),
    _watches(
        "read-live-an-old-version-counts",
        "store",
        "            pod = known if _older(pod.version, known.version) else pod\n",
        "",
    ),
    _watches(
        "what-is-gone-for-one-is-gone-for-all",
        "store",
        "        self._bury(pod.uid, version_number(pod.version))\n",
        "        self._bury(pod.uid, version_number(version))\n",
    ),
    _watches(
        "dead-pods-come-back",
        "store",
        "        if told < self._gone.get(pod.uid, -inf) or self",
        "        if self",
    ),
)
