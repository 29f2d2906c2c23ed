"""Calls a synkler daemon by what it tells of itself: SOCKET, and a file to move to a place it watches."""

import os
import sys

import varlink

socket, made, place = sys.argv[1:]

with varlink.Client.new_with_address(f"unix:{socket}") as client:
    with client.open("org.varlink.service") as service:
        info = service.GetInfo()
        assert info["product"] == "synkler" and "io.synkler.Control" in info["interfaces"], info
    with client.open("io.synkler.Control") as control:
        # What it says of itself is an interface by that package's own grammar, with all that is promised.
        members = client.get_interface("io.synkler.Control").members
        wanted = {"Transfer", "GetStatus", "List", "Monitor", "Pause", "Resume", "Check", "ForgetNode", "NotFound"}
        assert wanted <= set(members), wanted - set(members)

        status = control.GetStatus(10, True)["status"]
        assert status["node"]["mode"] == "upload" and status["total"] == 2, status
        assert status["transfers"][0]["reason"]["text"], status
        assert status["transfers"][0].get("progress") is None, status

        page = control.List(None, None, None, 1, None, True)
        assert (len(page["transfers"]), page["total"], page["more"]) == (1, 2, True), page
        page = control.List(after=page["transfers"][0]["id"], here=True)
        assert (len(page["transfers"]), page["more"]) == (1, False), page

        journey = control.GetTransfer("one", True)["journey"]
        assert journey["steps"][0]["stage"] == "announced", journey
        assert control.GetReceipt("one")["lines"].endswith("  one\n")
        assert control.GetHistory() == {"entries": [], "more": False}

        deeds = control.Pause()["deeds"]
        assert deeds[0]["done"] and deeds[0]["node"] == "upload alone", deeds
        assert control.GetStatus(0, True)["status"]["members"][0]["paused"]["by"], "it is told who paused it"
        assert control.Resume()["deeds"][0]["done"]
        assert control.GetStatus(0, True)["status"]["members"][0].get("paused") is None

        assert control.SetLogLevel("debug")["previous"] == "info"
        assert control.Reload() == {"changed": [], "restart": []}

        for call, error in [
            (lambda: control.GetTransfer("nothing", True), "io.synkler.Control.NotFound"),
            (lambda: control.GetStatus(5000), "org.varlink.service.InvalidParameter"),
            (lambda: control.Monitor(), "org.varlink.service.ExpectedMore"),
        ]:
            try:
                answer = call()
            except varlink.VarlinkError as refusal:
                assert refusal.error() == error, refusal
            else:
                raise AssertionError(f"{error} was wanted: {answer}")

with varlink.Client.new_with_address(f"unix:{socket}") as client:
    with client.open("io.synkler.Control") as control:
        stream = control.Monitor(None, True, _more=True)
        first = next(stream)
        assert first["full"] and len(first["status"]["transfers"]) == 2, first
        os.rename(made, place)
        for update in stream:
            assert not update["full"], update
            if any(transfer["item"] == "three" for transfer in update["status"]["transfers"]):
                break

print("all well")
