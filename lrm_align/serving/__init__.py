"""A model behind an OpenAI-compatible chat endpoint, with or without a defence.

settings.py   the numbers of `config.serve`
protocol.py   what a client may send, and what it gets back
text.py       token ids to text as they come: thought, answer, stop strings
service.py    from messages to the events of the engine
app.py        routes, key, limits and time-outs
http.py       the socket, and connections that say nothing
"""
