// Renders templates with Go's own text/template: what tests/text/test_gotemplate.c compares with.
//
//	go run tools/make_gotemplate_vectors.go tests/data/text
//
// reads gotemplate_cases.txt (templates over one piece of data), gotemplate_conversations.json (conversations, and templates in
// the manner of Modelfiles) and the models' templates in gotemplate/, and writes gotemplate_language.json and gotemplate_ollama.json. The types
// and the rules for conversations are those that Ollama documents and shows; only the standard library is used.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

const now = 1753000000 // the tests' clock

// ---- what templates see ----

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

type arguments map[string]any

func (a arguments) String() string {
	if a == nil {
		return "{}"
	}
	return asJSON(map[string]any(a))
}

type calledFunction struct {
	Index     int
	Name      string
	Arguments arguments
}

type toolCall struct {
	ID       string
	Function calledFunction
}

type message struct {
	Role       string
	Content    string
	Thinking   string
	Images     [][]byte
	ToolCalls  []toolCall
	ToolName   string
	ToolCallID string
}

type typeNames []string

func (t *typeNames) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*t = typeNames{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(t))
}

func (t typeNames) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

func (t typeNames) String() string {
	if len(t) > 1 {
		return fmt.Sprint([]string(t))
	}
	return strings.Join(t, "")
}

// a JSON object whose keys keep their order
type orderedProperties struct {
	names  []string
	values map[string]property
}

func (o *orderedProperties) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	o.values = map[string]property{}
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var p property
		if err := d.Decode(&p); err != nil {
			return err
		}
		name := key.(string)
		if _, known := o.values[name]; !known {
			o.names = append(o.names, name)
		}
		o.values[name] = p
	}
	return nil
}

func (o orderedProperties) MarshalJSON() ([]byte, error) {
	members := []string{}
	for _, name := range o.names {
		members = append(members, asJSON(name)+":"+asJSON(o.values[name]))
	}
	return []byte("{" + strings.Join(members, ",") + "}"), nil
}

type property struct {
	AnyOf       []property         `json:"anyOf,omitempty"`
	Type        typeNames          `json:"type,omitempty"`
	Items       any                `json:"items,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	Properties  *orderedProperties `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
}

func (p property) ToTypeScriptType() string {
	known := map[string]string{"string": "string", "number": "number", "integer": "number", "boolean": "boolean",
		"array": "any[]", "object": "Record<string, any>", "null": "null"}
	var names []string
	for _, t := range p.AnyOf {
		names = append(names, t.ToTypeScriptType())
	}
	for _, t := range p.Type {
		if len(p.AnyOf) > 0 {
			break
		}
		name := known[t]
		if name == "" {
			name = "any"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, " | ")
}

type properties map[string]property

func (p properties) String() string {
	if p == nil {
		return "{}"
	}
	return asJSON(map[string]property(p))
}

type parameters struct {
	Type       string     `json:"type"`
	Defs       any        `json:"$defs,omitempty"`
	Items      any        `json:"items,omitempty"`
	Required   []string   `json:"required,omitempty"`
	Properties properties `json:"properties"`
}

type function struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Parameters  parameters `json:"parameters"`
}

type toolFields struct {
	Type     string   `json:"type"`
	Items    any      `json:"items,omitempty"`
	Function function `json:"function"`
}

type tool toolFields

func (t tool) String() string { return asJSON(toolFields(t)) }

type toolList []tool

func (t toolList) String() string { return asJSON([]tool(t)) }

var functions = template.FuncMap{
	"json":        asJSON,
	"currentDate": func(...string) string { return time.Unix(now, 0).UTC().Format(time.DateOnly) },
	"yesterdayDate": func(...string) string {
		return time.Unix(now, 0).UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	},
	"toTypeScriptType": func(v any) string {
		switch p := v.(type) {
		case property:
			return p.ToTypeScriptType()
		case *property:
			return p.ToTypeScriptType()
		}
		return "any"
	},
}

func compile(text string) (*template.Template, error) {
	return template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
}

// ---- conversations ----

type conversation struct {
	Messages []struct {
		Role       string     `json:"role"`
		Content    string     `json:"content"`
		Thinking   string     `json:"thinking"`
		Images     [][]byte   `json:"images"`
		ToolCalls  []toolCall `json:"tool_calls"`
		ToolName   string     `json:"tool_name"`
		ToolCallID string     `json:"tool_call_id"`
	} `json:"messages"`
	Tools      toolList `json:"tools"`
	Prompt     string   `json:"prompt"`
	Suffix     string   `json:"suffix"`
	Think      *bool    `json:"think"`
	ThinkLevel string   `json:"think_level"`
}

// neighbours of one role as one message, and all system messages
func (c *conversation) merged() (list []*message, system string) {
	var systems []string
	for _, m := range c.Messages {
		role := strings.ToLower(m.Role)
		if role == "system" {
			systems = append(systems, m.Content)
		}
		if n := len(list); n > 0 && list[n-1].Role == role && role != "tool" {
			list[n-1].Content += "\n\n" + m.Content
			continue
		}
		list = append(list, &message{role, m.Content, m.Thinking, m.Images, m.ToolCalls, m.ToolName, m.ToolCallID})
	}
	return list, strings.Join(systems, "\n\n")
}

func (c *conversation) data(more map[string]any) map[string]any {
	more["Think"] = c.Think != nil && *c.Think
	more["IsThinkSet"] = c.Think != nil
	more["ThinkLevel"] = c.ThinkLevel
	if _, given := more["Response"]; !given {
		more["Response"] = ""
	}
	return more
}

// every name that follows a point or is a variable's, save what hangs on parentheses
func names(n parse.Node, found map[string]bool) {
	add := func(idents []string) {
		for _, ident := range idents {
			found[strings.ToLower(ident)] = true
		}
	}
	branch := func(b *parse.BranchNode) {
		names(b.Pipe, found)
		names(b.List, found)
		if b.ElseList != nil {
			names(b.ElseList, found)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, item := range n.Nodes {
			names(item, found)
		}
	case *parse.ActionNode:
		names(n.Pipe, found)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			names(n.Pipe, found)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.PipeNode:
		for _, command := range n.Cmds {
			for _, arg := range command.Args {
				names(arg, found)
			}
		}
	case *parse.FieldNode:
		add(n.Ident)
	case *parse.VariableNode:
		add(n.Ident)
	}
}

func namesOf(t *template.Template) map[string]bool {
	found := map[string]bool{}
	for _, one := range t.Templates() {
		names(one.Root, found)
	}
	return found
}

// Cuts a tree behind the first .Response that is printed; reports whether it has been met.
func cutList(list *parse.ListNode, cut bool) bool {
	if list == nil {
		return cut
	}
	for i, item := range list.Nodes {
		if cut {
			list.Nodes = list.Nodes[:i]
			break
		}
		switch n := item.(type) {
		case *parse.IfNode:
			cut = cutBranch(&n.BranchNode)
		case *parse.WithNode:
			cut = cutBranch(&n.BranchNode)
		case *parse.RangeNode:
			cut = cutBranch(&n.BranchNode)
		case *parse.ActionNode:
			var empty bool
			if cut, empty = cutPipe(n.Pipe); empty {
				list.Nodes = list.Nodes[:i]
				return true
			}
		}
	}
	return cut
}

func cutBranch(b *parse.BranchNode) bool {
	cut := cutList(b.List, false)
	if cut {
		b.ElseList = nil
	}
	return cutList(b.ElseList, cut)
}

// empty: a command of the pipeline has no operands left
func cutPipe(pipe *parse.PipeNode) (cut, empty bool) {
	for _, command := range pipe.Cmds {
		kept := []parse.Node{}
		for _, arg := range command.Args {
			drop := cut
			switch n := arg.(type) {
			case *parse.FieldNode:
				if slices.Contains(n.Ident, "Response") {
					cut, drop = true, false // further ones stay, empty as they are
				}
			case *parse.PipeNode:
				if !cut {
					cut, drop = cutPipe(n)
				}
			}
			if !drop {
				kept = append(kept, arg)
			}
		}
		command.Args = kept
		empty = empty || len(kept) == 0
	}
	return cut, empty
}

func render(text string, c *conversation) (string, error) {
	t, err := compile(text)
	if err != nil {
		return "", err
	}
	used := namesOf(t)
	if !used["messages"] && !used["response"] {
		if t, err = compile(text + "{{ .Response }}"); err != nil {
			return "", err
		}
	}
	var out bytes.Buffer
	messages, system := c.merged()
	if c.Prompt != "" && c.Suffix != "" {
		err = t.Execute(&out, c.data(map[string]any{"Prompt": c.Prompt, "Suffix": c.Suffix}))
		return out.String(), err
	}
	if used["messages"] {
		err = t.Execute(&out, c.data(map[string]any{"System": system, "Messages": messages, "Tools": c.Tools}))
		return out.String(), err
	}
	turn := map[string]string{}
	flush := func(t *template.Template) error {
		data := c.data(map[string]any{"System": turn["system"], "Prompt": turn["user"], "Response": turn["assistant"]})
		turn = map[string]string{}
		return t.Execute(&out, data)
	}
	for _, m := range messages {
		ended := (m.Role == "system" && turn["user"]+turn["assistant"] != "") || (m.Role == "user" && turn["assistant"] != "")
		if ended {
			if err := flush(t); err != nil {
				return "", err
			}
		}
		turn[m.Role] = m.Content
	}
	last := template.Must(t.Clone())
	root := t.Root.CopyList()
	cutList(root, false)
	last = template.Must(last.AddParseTree("", &parse.Tree{Root: root}))
	err = flush(last)
	return out.String(), err
}

// ---- what a template tells of its model ----

func asksFor(pipe *parse.PipeNode, name string) bool {
	for _, command := range pipe.Cmds {
		for _, arg := range command.Args {
			if field, ok := arg.(*parse.FieldNode); ok && strings.Contains("."+strings.Join(field.Ident, ".")+".", "."+name+".") {
				return true
			}
		}
	}
	return false
}

func branchOf(n parse.Node) *parse.BranchNode {
	switch n := n.(type) {
	case *parse.IfNode:
		return &n.BranchNode
	case *parse.WithNode:
		return &n.BranchNode
	case *parse.RangeNode:
		return &n.BranchNode
	}
	return nil
}

func toolCallNode(list *parse.ListNode) *parse.IfNode {
	if list == nil {
		return nil
	}
	for _, item := range list.Nodes {
		if n, ok := item.(*parse.IfNode); ok && asksFor(n.Pipe, "ToolCalls") {
			return n
		}
		if b := branchOf(item); b != nil {
			for _, inner := range []*parse.ListNode{b.List, b.ElseList} {
				if found := toolCallNode(inner); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// the first text, unless an action comes before it
func firstText(list *parse.ListNode) string {
	if list == nil {
		return ""
	}
	for _, item := range list.Nodes {
		if text, ok := item.(*parse.TextNode); ok && len(bytes.TrimSpace(text.Text)) > 0 {
			return string(text.Text)
		}
		if _, ok := item.(*parse.ActionNode); ok {
			return ""
		}
		if b := branchOf(item); b != nil {
			if text := firstText(b.List); text != "" {
				return text
			}
			return firstText(b.ElseList)
		}
	}
	return ""
}

func toolPrefix(t *template.Template) string {
	prefix := ""
	if n := toolCallNode(t.Root); n != nil {
		prefix, _, _ = strings.Cut(strings.ReplaceAll(firstText(n.List), "\r\n", "\n"), "{")
	}
	if prefix = strings.TrimSpace(prefix); prefix == "" {
		return "{"
	}
	return prefix
}

type thinking struct{ open, close string }

func (t *thinking) find(n parse.Node, list *parse.ListNode, loop *parse.RangeNode) {
	switch n := n.(type) {
	case *parse.ListNode:
		for _, item := range n.Nodes {
			t.find(item, n, loop)
		}
	case *parse.ActionNode:
		t.find(n.Pipe, list, loop)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			t.find(n.Pipe, list, loop)
		}
	case *parse.PipeNode:
		for _, command := range n.Cmds {
			for _, arg := range command.Args {
				t.find(arg, list, loop)
			}
		}
	case *parse.FieldNode:
		if n.Ident[0] != "Thinking" || loop == nil || !firstNames(loop.Pipe)["Messages"] {
			return
		}
		if text, ok := list.Nodes[0].(*parse.TextNode); ok {
			t.open = strings.TrimSpace(string(text.Text))
		}
		if text, ok := list.Nodes[len(list.Nodes)-1].(*parse.TextNode); ok {
			t.close = strings.TrimSpace(string(text.Text))
		}
	}
	if b := branchOf(n); b != nil {
		if r, ok := n.(*parse.RangeNode); ok {
			loop = r
		}
		t.find(b.Pipe, list, loop)
		t.find(b.List, list, loop)
		if b.ElseList != nil {
			t.find(b.ElseList, list, loop)
		}
	}
}

func firstNames(pipe *parse.PipeNode) map[string]bool {
	found := map[string]bool{}
	for _, command := range pipe.Cmds {
		for _, arg := range command.Args {
			switch n := arg.(type) {
			case *parse.FieldNode:
				found[n.Ident[0]] = true
			case *parse.PipeNode:
				for name := range firstNames(n) {
					found[name] = true
				}
			}
		}
	}
	return found
}

// ---- files ----

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func read(path string) []byte {
	text, err := os.ReadFile(path)
	check(err)
	return text
}

func write(path string, v any) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	check(e.Encode(v))
	check(os.WriteFile(path, out.Bytes(), 0o644))
}

var place = regexp.MustCompile(`^template: :(\d+)(:\d+: executing)?`)

// "parse LINE" or "run LINE"
func kindOf(err error) string {
	found := place.FindStringSubmatch(err.Error())
	if found == nil {
		log.Fatalf("an error without its line: %v", err)
	}
	if found[2] == "" {
		return "parse " + found[1]
	}
	return "run " + found[1]
}

// [template, output or null, kind of error and what Go says]
func languageCase(text string, data any) []any {
	var out bytes.Buffer
	t, err := compile(text)
	if err == nil {
		err = t.Execute(&out, data)
	}
	if err != nil {
		return []any{text, nil, kindOf(err), err.Error()}
	}
	return []any{text, out.String()}
}

func language(folder string) {
	text := strings.TrimSuffix(string(read(filepath.Join(folder, "gotemplate_cases.txt"))), "\n")
	blocks := strings.Split(text, "\n====\n")
	var data any
	check(json.Unmarshal([]byte(blocks[0]), &data))
	cases := [][]any{}
	for _, text := range blocks[1:] {
		cases = append(cases, languageCase(text, data))
	}
	write(filepath.Join(folder, "gotemplate_language.json"), map[string]any{"data": blocks[0], "cases": cases})
}

// "LENGTH DIGEST", FNV-1a of 64 bits
func digest(text string) string {
	h := fnv.New64a()
	h.Write([]byte(text))
	return fmt.Sprintf("%d %016x", len(text), h.Sum64())
}

// file: the template is one, and its outputs are long
func answers(text string, file bool, conversations map[string]*conversation) map[string]any {
	t, err := compile(text)
	if err != nil {
		return map[string]any{"error": kindOf(err)}
	}
	var tags thinking
	tags.find(t.Root, t.Root, nil)
	used := []string{}
	found := namesOf(t)
	if !found["messages"] {
		found["response"] = true // it is appended
	}
	for _, name := range []string{"messages", "response", "suffix", "system", "thinking", "toolcalls", "tools"} {
		if found[name] {
			used = append(used, name)
		}
	}
	outputs := map[string]any{}
	for name, c := range conversations {
		out, err := render(text, c)
		switch {
		case err != nil:
			outputs[name] = nil
		case file:
			outputs[name] = digest(out)
		default:
			outputs[name] = out
		}
	}
	return map[string]any{"uses": used, "tool_prefix": toolPrefix(t),
		"thinking": []string{tags.open, tags.close}, "outputs": outputs}
}

func ollama(folder string) {
	var in struct {
		Conversations map[string]json.RawMessage
		Templates     map[string]string
	}
	check(json.Unmarshal(read(filepath.Join(folder, "gotemplate_conversations.json")), &in))
	conversations := map[string]*conversation{}
	for name, text := range in.Conversations {
		c := &conversation{}
		check(json.Unmarshal(text, c))
		conversations[name] = c
	}
	for _, pattern := range []string{"gotemplate/*.gotmpl", "gotemplate/library/*.gotmpl"} {
		paths, err := filepath.Glob(filepath.Join(folder, pattern))
		check(err)
		for _, path := range paths {
			in.Templates[strings.TrimPrefix(path, folder+"/")] = string(read(path))
		}
	}
	list := []string{}
	for name := range in.Templates {
		list = append(list, name)
	}
	sort.Strings(list)
	all := map[string]any{}
	for _, name := range list {
		all[name] = answers(in.Templates[name], strings.HasSuffix(name, ".gotmpl"), conversations)
	}
	write(filepath.Join(folder, "gotemplate_ollama.json"), all)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: make_gotemplate_vectors FOLDER")
	}
	language(os.Args[1])
	ollama(os.Args[1])
}
