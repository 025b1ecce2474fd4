//! Small templates for the corners of the language, equal to what the helm program makes of them.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unwrap_in_result,
    reason = "what a test needs and does not find is a failure of the test"
)]

mod support;

use std::{fmt::Write as _, fs, path::Path, sync::Mutex};

use fedistio_charts::{Capabilities, Chart, CompiledChart, ReleaseOptions};

const VALUES: &str = r#"
one: 1
big: 1000000
huge: 123456789012
frac: 0.5
tiny: 0.00000012
neg: -3
text: hello
empty: ""
yep: true
nope: false
nothing: null
list: [a, b, c]
numbers: [3, 1, 2, 1]
map: {b: 2, a: 1, c: {d: deep, e: [x, {y: z}]}}
emptyMap: {}
emptyList: []
multi: "line one\nline two\n"
unicode: "héllo ✓ 😀"
tricky: ["yes", "no", "1", "1.5", "0x1f", "null", "~", "", " a", "a ", "a: b", "a #b", "- a", "@a", "%a", "a\tb", "a\nb", "\na", "a\n\n", "'", "\"", "2001-01-01", "1:30", "<<", "=", "{a}", "[a]", "&a", "*a", "!a", "|", ">", "?", "? a", ":", "a:", "---", "...", "é", "1_000", "+1", ".5", "1e3", "0b1", "0o7", "007", "08", "y", "N", "On", ".inf", ".nan", "\u0085", "\u00a0", "\u2028", "\ufeff"]
long: "a text of many words that is longer than eighty columns and so has to be folded by the writer somewhere in the middle of it"
keys: {x10: 1, x9: 2, X: 3, _a: 4, "1": 5, "10": 6, "9": 7, "a.b": 8, "a b": 9, "": 10, "yes": 11, "true": 12, é: 13, a1b: 14, a01b: 15, a-b: 16}
"#;

/// Templates that render.
const SNIPPETS: &[&str] = &[
    "{{ .Values.one }} {{ .Values.big }} {{ .Values.huge }} {{ .Values.frac }} {{ .Values.tiny }} {{ .Values.neg }}",
    "{{ 1 }} {{ 1.0 }} {{ 1e6 }} {{ 0x10 }} {{ 1_000 }} {{ 'a' }} {{ -5 }} {{ +5 }} {{ 0o17 }} {{ 0b11 }} {{ .5 }}",
    "{{ \"a\\tb\\u00e9\\x41\\101\" }} {{ `raw\\n` }} {{ \"q\\\"\" }}",
    "a {{- \" b \" -}} c  {{- /* comment */ -}}  d {{/* x */}} e",
    "a\n{{- /* trims one side */}}\n b",
    "a \n{{/* other side */ -}}\n b",
    "{{ .Values.missing }}|{{ .Values.map.missing }}|{{ .Values.nothing }}|{{ (.Values.missing).deeper }}|{{ ((.Values.missing).deeper).more }}",
    "{{ if .Values.missing }}a{{ else if .Values.yep }}b{{ else }}c{{ end }}",
    "{{ with .Values.map }}{{ .a }}{{ $.Values.one }}{{ else }}none{{ end }}",
    "{{ with .Values.emptyMap }}x{{ else with .Values.text }}{{ . }}{{ else }}y{{ end }}",
    "{{ range .Values.list }}{{ . }},{{ end }}",
    "{{ range $i, $e := .Values.list }}{{ $i }}={{ $e }};{{ end }}",
    "{{ range $k, $v := .Values.map }}{{ $k }}={{ $v }};{{ end }}",
    "{{ range .Values.emptyList }}x{{ else }}empty{{ end }}",
    "{{ range $e := .Values.list }}{{ if eq $e \"b\" }}{{ continue }}{{ end }}{{ $e }}{{ end }}",
    "{{ range $e := .Values.list }}{{ if eq $e \"b\" }}{{ break }}{{ end }}{{ $e }}{{ end }}",
    "{{ range 3 }}{{ . }}{{ end }} {{ range $i := 2 }}{{ $i }}{{ end }}",
    "{{ range until 4 }}{{ . }}{{ end }} {{ range untilStep 10 0 -3 }}{{ . }} {{ end }}",
    "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ $y }}{{ end }}{{ $x }}",
    "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}",
    "{{ range $i, $e := .Values.list }}{{ $last := $e }}{{ end }}{{ $s := \"\" }}{{ range .Values.list }}{{ $s = print $s . }}{{ end }}{{ $s }}",
    "{{ .Values.text | upper | quote }} {{ \"x\" | printf \"%s-%s\" \"y\" }}",
    "{{ and 1 0 2 }} {{ or 0 \"\" \"x\" }}",
    "{{ not .Values.yep }} {{ not .Values.empty }} {{ and .Values.yep .Values.text }} {{ or .Values.nothing .Values.one }}",
    "{{ eq 1 1 }} {{ eq 1 2 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 3 2 }} {{ ge 2 3 }}",
    "{{ eq .Values.one 1.0 }} {{ eq (int .Values.one) 1 }} {{ eq .Values.missing nil }} {{ eq nil nil }} {{ eq .Values.text \"hello\" }}",
    "{{ eq (add 1 1) 2 }} {{ eq (len .Values.list) 3 }} {{ lt (int64 3) 4 }}",
    "{{ len .Values.list }} {{ len .Values.text }} {{ len .Values.map }} {{ len .Values.unicode }}",
    "{{ index .Values.list 1 }} {{ index .Values.map \"c\" \"d\" }} {{ index .Values.map \"zz\" }} {{ index .Values.map.c.e 1 \"y\" }}",
    "{{ printf \"%d|%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U|%q\" 42 42 42 42 42 255 255 8 5 65 233 65 }}",
    "{{ printf \"%s|%10s|%-10s|%.2s|%q|%x|%v|%t\" \"abc\" \"abc\" \"abc\" \"abc\" \"a\\\"b\" \"hi\" \"v\" true }}",
    "{{ printf \"%f|%.2f|%8.3f|%e|%g|%G|%v|%6.1f|%+.1f\" 1.5 1.555 3.14159 12345.678 0.0000123 1e20 2.0 9.96 1.0 }}",
    "{{ printf \"%d %s %t %f\" 1.5 5 \"x\" \"y\" }}",
    "{{ printf \"%d\" }} {{ printf \"%d\" 1 2 }} {{ printf \"%!\" }} {{ printf \"%z\" 1 }} {{ printf \"100%%\" }}",
    "{{ printf \"%v %v %v %v\" .Values.list .Values.map .Values.nothing .Values.big }}",
    "{{ printf \"%T %T %T %T %T %T %T\" 1 1.0 \"a\" true .Values.list .Values.map (add 1 2) }}",
    "{{ printf \"%*d|%-*d|%.*f\" 5 42 5 42 2 3.14159 }} {{ printf \"%[2]d %[1]d\" 1 2 }}",
    "{{ printf \"%#v %#v %#x %#q\" \"a\" .Values.list 255 \"raw\" }}",
    "{{ printf \"%s\" .Values.list }} {{ printf \"%q\" .Values.list }} {{ printf \"%d\" (list 1 2) }}",
    "{{ print 1 2 \"a\" \"b\" 3 true nil }} {{ println \"a\" 1 }}",
    "{{ html \"<a href='x'>&\" }} {{ js \"it's <b>\" }} {{ urlquery \"a b&c=d/é\" }}",
    "{{ define \"inner\" }}[{{ . }}]{{ end }}{{ template \"inner\" .Values.text }}{{ template \"inner\" }}{{ include \"inner\" 5 }}",
    "{{ block \"blk\" .Values.one }}({{ . }}){{ end }}",
    "{{ tpl \"{{ .Values.text }}-{{ .Values.missing }}\" . }} {{ tpl \"{{ define \\\"t\\\" }}T{{ end }}{{ include \\\"t\\\" . }}\" . }} {{ tpl \"plain\" . }}",
    "{{ default \"d\" .Values.empty }} {{ default \"d\" .Values.text }} {{ .Values.missing | default 5 }} {{ default 0 1 }} {{ default \"x\" }}",
    "{{ coalesce .Values.nothing .Values.empty .Values.text }} {{ coalesce 0 false }} {{ empty .Values.emptyMap }} {{ empty 0 }} {{ all 1 0 }} {{ any 0 1 }}",
    "{{ ternary \"a\" \"b\" true }} {{ ternary \"a\" \"b\" .Values.nope }} {{ true | ternary 1 2 }}",
    "{{ quote \"a\" 1 nil true 1.5 }} {{ squote \"a\" 1 nil }} {{ cat \"a\" nil 1 \"b\" }} {{ quote .Values.multi }} {{ quote .Values.unicode }}",
    "{{ indent 2 \"a\\nb\" }}|{{ nindent 2 \"a\\nb\" }}|{{ .Values.multi | indent 1 }}",
    "{{ trim \"  a \" }}|{{ trimSuffix \"x\" \"axx\" }}|{{ trimPrefix \"a\" \"aab\" }}|{{ trimAll \"$\" \"$5$\" }}|{{ nospace \" a b \" }}",
    "{{ upper \"aé\" }} {{ lower \"AÉ\" }} {{ title \"hello world foo-bar\" }} {{ untitle \"Hello World\" }} {{ swapcase \"aB\" }}",
    "{{ repeat 3 \"ab\" }} {{ substr 1 3 \"hello\" }} {{ substr -1 3 \"hello\" }} {{ substr 2 -1 \"hello\" }} {{ trunc 3 \"hello\" }} {{ trunc -3 \"hello\" }} {{ trunc 9 \"x\" }}",
    "{{ contains \"ell\" \"hello\" }} {{ hasPrefix \"he\" \"hello\" }} {{ hasSuffix \"lo\" \"hello\" }} {{ replace \"l\" \"L\" \"hello\" }} {{ plural \"one\" \"many\" 1 }}{{ plural \"one\" \"many\" 2 }}",
    "{{ splitList \",\" \"a,b,,c\" }} {{ (split \",\" \"a,b\")._1 }} {{ (split \",\" \"a,b\")._7 }}| {{ (splitn \",\" 2 \"a,b,c\")._1 }} {{ join \"-\" .Values.list }} {{ join \",\" 5 }} {{ splitList \"\" \"héy\" }}",
    "{{ abbrev 5 \"hello world\" }} {{ abbrevboth 5 10 \"1234 5678 9123\" }} {{ initials \"First Try\" }}",
    "{{ wrap 10 \"a long text to be wrapped here\" }} {{ wrapWith 5 \"|\" \"abcdefghijk lm\" }}",
    "{{ snakecase \"FirstName\" }} {{ kebabcase \"FirstName\" }} {{ camelcase \"http_server\" }}",
    "{{ toString 1.0 }} {{ toString .Values.big }} {{ toString true }} {{ toString .Values.list }} {{ toStrings .Values.numbers }}",
    "{{ int \"12\" }} {{ int \"x\" }} {{ int 3.9 }} {{ int \"5.0\" }} {{ int64 .Values.huge }} {{ float64 \"1.5\" }} {{ atoi \"7\" }} {{ toDecimal \"0777\" }} {{ int true }} {{ int nil }}",
    "{{ add 1 2 3 }} {{ add1 5 }} {{ sub 5 3 }} {{ mul 2 3 4 }} {{ div 7 2 }} {{ mod 7 3 }} {{ max 1 5 3 }} {{ min 4 2 8 }} {{ add \"1\" 2.7 }}",
    "{{ floor 1.7 }} {{ ceil 1.2 }} {{ round 1.2345 2 }} {{ round 1.5 0 }} {{ maxf 1.5 2 }} {{ minf 1.5 2 }} {{ seq 5 }} {{ seq 2 5 }} {{ seq 0 2 6 }} {{ seq 5 1 }}",
    "{{ list 1 \"a\" nil }} {{ first .Values.list }} {{ last .Values.list }} {{ rest .Values.list }} {{ initial .Values.list }} {{ append .Values.list \"d\" }} {{ prepend .Values.list \"z\" }}",
    "{{ reverse .Values.list }} {{ uniq .Values.numbers }} {{ without .Values.list \"a\" }} {{ has \"b\" .Values.list }} {{ has 1 .Values.numbers }} {{ compact (list 0 1 \"\" \"a\") }} {{ sortAlpha .Values.numbers }}",
    "{{ slice .Values.list 1 }} {{ slice .Values.list 1 2 }} {{ concat .Values.list (list 1 2) }} {{ chunk 2 .Values.list }} {{ rest (list) | toJson }} {{ concat | toJson }} {{ first (list) }}|",
    "{{ dict \"a\" 1 \"b\" }} {{ get .Values.map \"a\" }} {{ get .Values.map \"q\" }}| {{ hasKey .Values.map \"a\" }} {{ hasKey .Values.map \"q\" }} {{ pick .Values.map \"a\" \"q\" }} {{ omit .Values.map \"c\" }} {{ pluck \"a\" .Values.map (dict \"a\" 5) }}",
    "{{ keys .Values.map | sortAlpha }} {{ values (dict \"a\" 1) }} {{ $d := dict }}{{ $_ := set $d \"x\" 1 }}{{ $d }} {{ $_ = unset $d \"x\" }}{{ $d }}",
    "{{ $a := dict \"x\" (dict \"y\" 1) }}{{ $b := $a.x }}{{ $_ := set $b \"z\" 2 }}{{ $a }}",
    "{{ $a := dict \"x\" 1 \"m\" (dict \"p\" 1) }}{{ $m := merge $a (dict \"x\" 2 \"y\" 3 \"m\" (dict \"p\" 2 \"q\" 3)) }}{{ $m }} {{ $a }}",
    "{{ mergeOverwrite (dict \"x\" 1 \"m\" (dict \"p\" 1) \"l\" (list 1)) (dict \"x\" 0 \"m\" (dict \"q\" 2) \"l\" (list) \"n\" nil \"e\" \"\") }}",
    "{{ mergeOverwrite (dict \"m\" (dict \"a\" 1)) (dict \"m\" \"text\") }} {{ mergeOverwrite (dict \"m\" \"text\") (dict \"m\" (dict \"a\" 1)) }} {{ merge (dict \"l\" (list) \"b\" false \"z\" 0) (dict \"l\" (list 1) \"b\" true \"z\" 5) }}",
    "{{ merge (dict \"x\" nil) (dict \"x\" 5) }} {{ merge (dict \"a\" 1) (dict \"l\" (list 1)) }} {{ mustMergeOverwrite (dict) (dict \"a\" (dict \"b\" 1)) (dict \"a\" (dict \"c\" 2)) }}",
    "{{ $s := dict \"m\" (dict \"a\" 1) }}{{ $t := mergeOverwrite (dict \"m\" (dict)) $s }}{{ $_ := set $t.m \"b\" 2 }}{{ $s }}",
    "{{ dig \"c\" \"d\" \"none\" .Values.map }} {{ dig \"c\" \"q\" \"none\" .Values.map }} {{ deepCopy .Values.map | deepEqual .Values.map }}",
    "{{ kindOf .Values.map }} {{ kindOf .Values }} {{ typeOf .Values }} {{ typeOf .Values.map }} {{ kindOf 1 }} {{ kindOf nil }} {{ typeOf nil }} {{ kindIs \"map\" .Values.map }} {{ typeIs \"float64\" .Values.one }} {{ typeIsLike \"string\" \"a\" }} {{ typeOf (splitList \",\" \"a\") }}",
    "{{ toJson .Values.map }} {{ toJson .Values.unicode }} {{ toJson \"<a&b>\" }} {{ toRawJson \"<a&b>\" }} {{ toJson .Values.big }} {{ toJson 1.5 }} {{ toJson .Values.tiny }} {{ toJson 1e21 }}",
    "{{ toPrettyJson .Values.map }} {{ toPrettyJson (dict) }} {{ toPrettyJson (list) }}",
    "{{ (fromJson \"{\\\"a\\\": [1, 2.5, \\\"x\\\", null, true]}\").a }} {{ fromJsonArray \"[1, {}]\" }} {{ fromJson \"[1]\" }} {{ fromJson \"null\" }}",
    "{{ toYaml .Values.map }}",
    "{{ toYaml .Values.tricky }}",
    "{{ toYaml .Values.keys }}",
    "{{ toYaml .Values.long }} {{ toYaml (dict \"k\" .Values.long \"l\" (list .Values.long)) }}",
    "{{ toYaml .Values.multi }} {{ toYaml (dict \"m\" .Values.multi \"n\" \"a\\nb\" \"o\" \"\\n\" \"p\" \" a\\nb\" \"q\" \"a \\nb\" \"r\" \"a\\n b\\n\\n\") }}",
    "{{ toYaml 1 }} {{ toYaml 1.0 }} {{ toYaml .Values.big }} {{ toYaml .Values.tiny }} {{ toYaml nil }} {{ toYaml (list) }} {{ toYaml (dict) }} {{ toYaml \"\" }} {{ toYaml 1e21 }} {{ toYaml 1e20 }} {{ toYaml true }}",
    "{{ toYaml (list (list 1 (list 2)) (dict \"a\" (list (dict \"b\" (list)))) (list (dict))) }}",
    "{{ toYaml (dict (repeat 130 \"k\") 1 \"a\\nb\" 2) }}",
    "{{ toYaml .Values.unicode }} {{ toYaml (dict \"q\" (printf \"%s: x\" .Values.long) \"d\" (printf \"\\\"%s\" .Values.long) \"t\" (printf \"%s\\ttab %s\" .Values.long .Values.long)) }}",
    "{{ fromYaml \"a: 1\\nb: [x, 'y', \\\"z\\\"]\\nc: yes\\nd: 010\\ne: 1_000\\nf: 0x1f\\ng: 1e3\\nh: ~\\ni: 2001-01-01\\nj: 1:30\\nk: .5\\nl: 0b11\\nm: 0o17\\nn: 09\" }}",
    "{{ fromYaml \"a: |\\n  x\\n  y\\nb: >\\n  x\\n  y\\n\\n  z\\nc: >-\\n  x\\nd: |+\\n  x\\n\\ne: plain\\n  more\\nf: 'it''s\\n  two'\" | toJson }}",
    "{{ fromYaml \"base: &b {x: 1, y: 2}\\nuse: {<<: *b, y: 3}\\nseq: [*b]\" | toJson }} {{ fromYaml \"- a\" }} {{ fromYaml \"\" }} {{ fromYaml \"just text\" }} {{ fromYaml \"null\" }}",
    "{{ fromYaml \"a: b: c\" }} {{ fromYaml \"a: [\" }} {{ fromYaml \"{a: b\" }} {{ fromYaml \"a: *x\" }} {{ fromYaml \"\\ta: b\" }} {{ fromYaml \"a: 'x\" }} {{ fromYaml \"x\\na: b\" }}",
    "{{ fromYaml \"1: a\\n1.5: b\\ntrue: c\\n? [x]\\n: d\" }} {{ fromYaml \"'1': a\\n2: b\\nyes: c\" | toJson }} {{ fromYaml \"a: @x\" }} {{ fromYaml \"a: %x\" }} {{ fromYaml \"a: b\\n c: d\" }} {{ fromYaml \"a:\\n- b\\nc\" }}",
    "{{ fromYaml \"a: !!str 5\\nb: !!int '7'\\nc: !!float 3\\nd: !foo bar\\ne: !!binary aGk=\" | toJson }} {{ fromYaml \"a: !!int x\" }} {{ fromYaml \"a: # comment\\n  b # c\\nd: e#f\" | toJson }}",
    "{{ fromYaml \"a: {b: c, d: [e, f: g], h}\\ni: {}\\nj: []\\nk: [a,b]\\n\\\"l\\\": {\\\"m\\\":\\\"n\\\"}\" | toJson }} {{ fromYaml \"a: \\\"x\\\\ty\\\\n\\\\u00e9\\\\x41\\\"\" | toJson }}",
    "{{ fromYamlArray \"- a\\n- 1\\n- {b: c}\" }} {{ fromYamlArray \"a: b\" }} {{ fromYaml \"---\\na: 1\\n---\\nb: 2\" }} {{ fromYaml \"a: 1\\n...\" }} {{ fromYaml \"# only\" }}",
    "{{ b64enc \"hello é\" }} {{ b64dec \"aGVsbG8=\" }} {{ b64dec \"!!\" }} {{ b32enc \"hello\" }} {{ b32dec \"NBSWY3DP\" }} {{ sha256sum \"a\" }} {{ sha512sum \"a\" | trunc 20 }} {{ adler32sum \"hello\" }}",
    "{{ regexMatch \"^a+$\" \"aaa\" }} {{ regexMatch \"[\" \"a\" }} {{ regexFind \"b+\" \"abbc\" }} {{ regexFindAll \"[0-9]+\" \"a1b22c333\" 2 }} {{ regexReplaceAll \"a(b+)\" \"abbc ab\" \"<${1}>\" }} {{ regexReplaceAllLiteral \"b\" \"abc\" \"$1\" }} {{ regexSplit \"[,;]\" \"a,b;c\" -1 }} {{ regexQuoteMeta \"a.b*c\" }}",
    "{{ base \"/a/b.txt\" }} {{ dir \"/a/b.txt\" }} {{ clean \"a/../b//c/.\" }} {{ ext \"x.tar.gz\" }} {{ isAbs \"/a\" }} {{ base \"\" }} {{ dir \"a\" }}",
    "{{ required \"needed\" .Values.text }} {{ lookup \"v1\" \"Pod\" \"ns\" \"name\" }} {{ .Files.Get \"data.txt\" }} {{ .Files.Get \"none\" }}| {{ .Files.Lines \"data.txt\" }}",
    "{{ range $p, $d := .Files.Glob \"*.txt\" }}{{ $p }}={{ $d | toString }};{{ end }} {{ (.Files.Glob \"files/**.cfg\").AsConfig }} {{ (.Files.Glob \"data.txt\").AsSecrets }}",
    "{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.Revision }} {{ .Release.IsInstall }} {{ .Release.IsUpgrade }} {{ .Release.Service }} {{ .Chart.Name }} {{ .Chart.Version }} {{ .Chart.AppVersion }} {{ .Chart.IsRoot }} {{ .Template.Name }} {{ .Template.BasePath }}",
    "{{ .Capabilities.KubeVersion }} {{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.KubeVersion.Major }} {{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.KubeVersion.GitVersion }}",
    "{{ $x := .Values.map.c }}{{ $x.d }} {{ $.Values.map.c.e }} {{ (index .Values.list 0) | upper }} {{ (dict \"a\" (dict \"b\" 5)).a.b }}",
    "{{ .Values.list | len }} {{ if and (eq 1 1) (or false .Values.yep) (not .Values.nope) }}ok{{ end }} {{ (eq \"a\" \"a\") | ternary \"t\" \"f\" }}",
    "{{ if .Values.list }}{{ else }}x{{ end }}{{ if 0.0 }}y{{ end }}{{ if \"\" }}z{{ end }}{{ if .Files }}files{{ end }}{{ if .Values.nothing }}n{{ end }}",
    "{{- range $k, $v := .Values.keys }}{{ $k }}:{{ $v }} {{ end -}}",
    "{{ $l := list }}{{ range .Values.numbers }}{{ $l = append $l (mul . 2) }}{{ end }}{{ $l }} {{ toJson $l }}",
    "{{ $_ := set .Values \"added\" 1 }}{{ .Values.added }}{{ $_ := unset .Values \"added\" }}{{ .Values.added }}",
    "{{ \"a b\" | splitList \" \" | first }} {{ list \"b\" \"a\" | sortAlpha | join \",\" }} {{ 5 | add 3 | mul 2 }}",
    "{{ trimSuffix \"-\" (trunc 5 \"abcd-ef\") }} {{ printf \"%s\" nil }} {{ printf \"%v\" nil }} {{ print nil }} {{ list nil }} {{ dict \"a\" nil }}",
    "{{ hello }} {{ until 0 }} {{ until 3 | toJson }} {{ tuple 1 2 }} {{ 1.5 | int | printf \"%03d\" }} {{ .Values.one | int | printf \"%d\" }} {{ printf \"%d\" .Values.one }}",
    "{{ mustToJson (list 1) }} {{ mustHas 1 (list 1) }} {{ mustFirst (list 1) }} {{ mustRegexMatch \"a\" \"a\" }} {{ mustFromJson \"[1]\" }} {{ fromJson \"{bad\" | keys }}",
];

/// Templates that end in an error.
const ERRORS: &[&str] = &[
    "{{ .Values.missing.deeper }}",
    "{{ .Values.text.x }}",
    "{{ .Values.one.x.y }}",
    "{{ range .Values.list }}{{ .x }}{{ end }}",
    "{{ fail \"no good\" }}",
    "{{ required \"must be set\" .Values.missing }}",
    "{{ include \"nothing\" . }}",
    "{{ template \"nothing\" . }}",
    "{{ define \"f\" }}{{ fail \"inside\" }}{{ end }}{{ include \"f\" . }}",
    "{{ define \"r\" }}{{ .x.y }}{{ end }}\n  {{ include \"r\" (dict) }}",
    "{{ upper 5 }}",
    "{{ upper .Values.one }}",
    "{{ upper .Values.missing }}",
    "{{ .Values.one | upper }}",
    "{{ upper nil }}",
    "{{ upper }}",
    "{{ upper \"a\" \"b\" }}",
    "{{ hasKey .Values.missing \"a\" }}",
    "{{ eq 1 1.0 }}",
    "{{ eq .Values.one 1 }}",
    "{{ eq .Values.list .Values.list }}",
    "{{ lt .Values.map 1 }}",
    "{{ lt 1 \"a\" }}",
    "{{ index .Values.list 9 }}",
    "{{ index .Values.list \"a\" }}",
    "{{ index .Values.missing 1 }}",
    "{{ index .Values.map 1 }}",
    "{{ len 5 }}",
    "{{ len .Values.nothing }}",
    "{{ range .Values.one }}x{{ end }}",
    "{{ range .Values.text }}x{{ end }}",
    "{{ nil }}",
    "{{ 5 6 }}",
    "{{ .Values.text \"arg\" }}",
    "{{ first \"a\" }}",
    "{{ first nil }}",
    "{{ div 1 0 }}",
    "{{ ternary 1 2 \"x\" }}",
    "{{ tpl \"{{ .x.y }}\" (dict) }}",
    "{{ tpl \"{{ if }}\" . }}",
    "{{ dig \"a\" \"b\" }}",
    "{{ dig \"one\" \"x\" \"d\" (dict \"one\" 1) }}",
    "{{ .Chart.Nothing }}",
    "{{ .Release.Name.x }}",
    "{{ .Files.Get 5 }}",
    "{{ .Files.Get }}",
    "{{ repeat -1 \"a\" }}",
    "{{ regexFind \"[\" \"a\" | len }}x{{ fail \"y\" }}",
    "{{ $x := .Values.missing }}{{ $x.a }}{{ $x.a.b }}",
    "{{ mustMerge (dict) 5 }}",
    "{{ set .Values.list \"a\" 1 }}",
    "{{ join 5 .Values.list }}",
    "{{ if }}x{{ end }}",
    "{{ if true }}x",
    "{{ end }}",
    "{{ else }}",
    "{{ nofunc 1 }}",
    "{{ $undefined }}",
    "{{ .a | 5 }}",
    "{{ \"unterminated }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ /* comment }}",
    "{{ break }}",
    "{{ 1a }}",
    "{{ define \"x\" }}",
    "{{ template 5 }}",
    "{{ range $a, $b, $c := .Values.list }}{{ end }}",
    "{{ .Values.text.}}",
    "{{ \"a\".b }}",
    "text {{ é! }}",
    "{{",
    "a: {{ \"x: y: z\" }}",
    "a: b\n- c",
    "- list",
    "text only",
    "kind: [a]",
];

fn chart(dir: &Path, templates: &[(String, String)]) {
    fs::create_dir_all(dir.join("templates")).unwrap();
    fs::create_dir_all(dir.join("files/deep")).unwrap();
    fs::write(
        dir.join("Chart.yaml"),
        "apiVersion: v2\nname: snippets\nversion: 1.2.3\nappVersion: \"4.5\"\n",
    )
    .unwrap();
    fs::write(dir.join("values.yaml"), VALUES).unwrap();
    fs::write(dir.join("data.txt"), "first\nsecond\n").unwrap();
    fs::write(dir.join("files/a.cfg"), "a = 1\n").unwrap();
    fs::write(dir.join("files/deep/b.cfg"), "b = 2").unwrap();
    for (name, text) in templates {
        fs::write(dir.join("templates").join(name), text).unwrap();
    }
}

fn render(dir: &Path) -> Result<String, String> {
    let chart = Chart::from_dir(dir).map_err(|error| error.to_string())?;
    let compiled = CompiledChart::new(chart).map_err(|error| error.to_string())?;
    let release = ReleaseOptions::install("rel", "ns");
    compiled
        .render(&release, &serde_json::Value::Null, &Capabilities::for_template("1.34.0"))
        .map(|rendered| rendered.to_helm_output())
        .map_err(|error| error.to_string())
}

#[test]
fn snippets_equal_helm() {
    let dir = tempfile::tempdir().unwrap();
    let templates: Vec<(String, String)> = SNIPPETS
        .iter()
        .enumerate()
        .map(|(at, snippet)| {
            // The result stands as a JSON text, so that it may hold anything.
            let mut text = String::new();
            write!(text, "{{{{ define \"s{at}\" }}}}{snippet}{{{{ end }}}}").unwrap();
            let text = if snippet.contains("define") || snippet.contains("block") {
                format!("r{at}: |-\n  {snippet}\n")
            } else {
                format!("{text}r{at}: {{{{ include \"s{at}\" . | toJson }}}}\n")
            };
            (format!("t{at:03}.yaml"), text)
        })
        .collect();
    chart(dir.path(), &templates);
    let expected = support::helm_template(dir.path(), "rel", "ns", "1.34.0", "").expect("helm renders");
    let actual = render(dir.path()).expect("renders");
    let split = |text: &str| text.split("---\n").map(str::to_owned).collect::<Vec<_>>();
    let (expected, actual) = (split(&expected), split(&actual));
    let differing: Vec<String> = expected
        .iter()
        .zip(&actual)
        .filter(|(expected, actual)| expected != actual)
        .map(|(expected, actual)| format!("-- helm\n{expected}-- here\n{actual}"))
        .collect();
    eprintln!("{} snippets: {} differ", SNIPPETS.len(), differing.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(expected.len(), actual.len());
}

#[test]
fn errors_equal_helm() {
    let queue = Mutex::new(ERRORS.to_vec());
    let differing = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(snippet) = queue.lock().unwrap().pop() else { return };
                    let dir = tempfile::tempdir().unwrap();
                    chart(dir.path(), &[("t.yaml".to_owned(), snippet.to_owned())]);
                    let expected = support::helm_template(dir.path(), "rel", "ns", "1.34.0", "");
                    let actual = render(dir.path());
                    if expected != actual {
                        differing
                            .lock()
                            .unwrap()
                            .push(format!("{snippet}\n-- helm\n{expected:?}\n-- here\n{actual:?}\n"));
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    eprintln!("{} erring snippets: {} differ", ERRORS.len(), differing.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
