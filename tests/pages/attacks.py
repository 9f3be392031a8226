"""What hostile models write at a page. Each sets `window.pwned`, loads something, or disturbs what stands around it."""

SCRIPTS = [
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>window.pwned=1//-->",
    "<!--<script></script><script>window.pwned=1</script>",
    "<ScRiPt/x>window.pwned=1</sCrIpT >",
    "<svg><script>window.pwned=1</script></svg>",
    "<svg/onload=window.pwned=1>",
    "<img src=x onerror=window.pwned=1>",
    "<img src=x:x onerror=window.pwned=1//",
    "<video><source onerror=window.pwned=1>",
    "<body onload=window.pwned=1>",
    "<details open ontoggle=window.pwned=1>",
    "<input autofocus onfocus=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<object data=data:text/html,<script>parent.pwned=1</script>></object>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=1 onerror=window.pwned=1>'>",
    "<noscript><p title='</noscript><img src=x onerror=window.pwned=1>'>",
    "<template><script>window.pwned=1</script></template>",
    "<textarea></textarea><img src=x onerror=window.pwned=1>",
    "<title></title><img src=x onerror=window.pwned=1>",
    "<xmp></xmp><img src=x onerror=window.pwned=1><plaintext>",
    "<![CDATA[<img src=x onerror=window.pwned=1>]]>",
    "<?xml version='1.0'?><img src=x onerror=window.pwned=1>",
]
ATTRIBUTES = [
    '"><img src=x onerror=window.pwned=1>',
    "' onmouseover='window.pwned=1",
    '" autofocus onfocus="window.pwned=1',
    "` onerror=`window.pwned=1",
    'x" style="position:fixed;inset:0;background:red;z-index:9999',
    "x onclick=window.pwned=1 y",
]
URLS = [
    "javascript:window.pwned=1",
    "<a href='javascript:window.pwned=1'>click</a>",
    "<a href='java\tscript:window.pwned=1' id=search>click</a>",
    "data:text/html,<script>window.pwned=1</script>",
    "<meta http-equiv=refresh content='0;url=http://attacker.test/'>",
    "<base href=http://attacker.test/>",
    "<link rel=stylesheet href=http://attacker.test/style.css>",
    "<img src=http://attacker.test/pixel>",
    "<form action=http://attacker.test/><button>ok</button></form>",
    "![](http://attacker.test/pixel) [ok](javascript:window.pwned=1)",
    "<audio src=http://attacker.test/a autoplay>",
]
ENTITIES = [
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "&amp;lt;img src=x onerror=window.pwned=1&amp;gt;",
    "&#60;img src=x onerror=window.pwned=1&#62;",
    "&#x3c;script&#x3e;window.pwned=1&#x3c;/script&#x3e;",
    "\\u003cscript\\u003ewindow.pwned=1\\u003c/script\\u003e",
    "\\x3cimg src=x onerror=window.pwned=1\\x3e",
    "+ADw-script+AD4-window.pwned=1+ADw-/script+AD4-",
    "%3Cscript%3Ewindow.pwned=1%3C/script%3E",
    '\\"},{\\"x\\":\\"',
    "${window.pwned=1} {{constructor.constructor('window.pwned=1')()}}",
]
STYLES = [
    "</style><style>*{display:none!important}</style>",
    "<style>@import url(http://attacker.test/x.css);body{background:red}</style>",
    "<div style='position:fixed;inset:0;background:red;z-index:99999'>over it all</div>",
    "<div class='bar' id='reader'>another reader</div>",
    "<dialog open>your session has ended</dialog>",
]
UNICODE = [
    "a\u202egnp.exe\u202c b",
    "\u2066\u2067\u2068 isolates that never end",
    "\u05d0\u05d1\u05d2 \u200f(\u0627\u0644\u0633\u0644\u0627\u0645)\u200e",
    "z" + "\u0341\u0359\u035f\u0489" * 40 + " tower",
    "line\u2028separator\u2029paragraph\u0085next\x0b\x0c",
    "nul\x00 bell\x07 escape\x1b[31m\x1b]0;owned\x07 delete\x7f",
    "\ufeff\u200b\u200d\u2060\u00ad invisible",
    "\U000e0041\U000e0042 tags \ufe01\U000e0101 selectors",
    "\uff1cscript\uff1ewindow.pwned=1\uff1c/script\uff1e \u2039img onerror\u203a",
    "\ufdfd" * 30,
    "\u3164\uffa0\u115f fillers",
    "A" * 3000,
    "\u00a0" * 200 + "\n" * 50 + "\t" * 50,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
]
NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty", "null", "undefined", "0", "length", "book", "pwned"]

ALL = [*SCRIPTS, *ATTRIBUTES, *URLS, *ENTITIES, *STYLES, *UNICODE, *NAMES]
# As bytes that are no UTF-8: overlong forms of "<", a cut letter, half a surrogate pair.
BYTES = [b"\xc0\xbcscript\xc0\xbe", b"\xe0\x80\xbcimg src=x onerror=window.pwned=1>", b"\xf0\x9f", b"\xed\xa0\x80 half"]
