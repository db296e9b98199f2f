;;; rlm-test.el --- Unit tests of rlm  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Tests that need no real server: text filters, the drawing of recorded
;; events, contexts, the connection against a server that misbehaves, and
;; the manual.  RLM_TEST_RENEW=1 in the environment writes the expected
;; Org file of the recorded run anew; look at what has changed then.

;;; Code:

(require 'cus-edit)
(require 'rlm-test-lib)
(require 'org-element)
(require 'url-util)

;;;; Text filters

(defconst rlm-test-nasty
  (concat "# Title\n## With *stars*\n* star\n** two\n*bold* start\n- item\n***\n"
          "```json\n* x\n#+end_src\n```\nafter\n  ~~~~ sh\nin\n```\n~~~\n~~~~\n"
          "#+begin_src sh :var x=(evil)\n  #+include: \"/etc/passwd\"\n#+startup: x\n# comment\n"
          "%%(evil)\n&%%(evil)\n<%%(evil)> src_sh{evil} call_evil(x) [[shell:evil][x]] [[eshell:evil][x]] elisp:(evil)\n"
          ":END:\n:PROPERTIES:\n| a | b |\nCRLF\r\nform\ffeed\n\n   \n"
          "Local Variables:\neval: (evil)\nEnd:\n```\nleft open")
  "Text that would break an Org buffer in many ways.")

(defun rlm-test-filtered (filter text size)
  "Return TEXT fed to FILTER in pieces of SIZE characters."
  (let ((result "") (start 0))
    (while (< start (length text))
      (let ((end (min (length text) (+ start size))))
        (setq result (concat result (rlm-org-feed filter (substring text start end)))
              start end)))
    (concat result (rlm-org-finish filter))))

(ert-deftest rlm-test-filters-do-not-depend-on-the-cut ()
  (let ((prose (rlm-org-prose rlm-test-nasty))
        (block (rlm-org-block rlm-test-nasty 30)))
    (dotimes (size 60)
      (should (equal prose (rlm-test-filtered (rlm-org-prose-filter) rlm-test-nasty (1+ size))))
      (should (equal block (rlm-test-filtered (rlm-org-block-filter 30) rlm-test-nasty
                                              (1+ size)))))))

(ert-deftest rlm-test-what-passes-a-filter-whole-is-what-passes-it-by-lines ()
  (let ((lines (split-string (concat rlm-test-nasty "\nplain words\n, and 'signs'\n  within;\n") "\n"))
        (whole 0))
    (dotimes (seed 300)
      (random (format "%d" seed))
      (let* ((text (mapconcat (lambda (_) (if (zerop (random 6)) (seq-random-elt lines)
                                            (seq-random-elt (last lines 4))))
                              (number-sequence 0 8) (if (zerop (random 4)) " " "\n")))
             (size (1+ (random 80)))
             (make (seq-random-elt (list #'rlm-org-prose-filter
                                         (lambda () (rlm-org-block-filter 30))
                                         (lambda () (rlm-org-block-filter 2000)))))
             (taken (rlm-test-filtered (funcall make) text size)))
        (when (rlm-org--harmless-p (funcall make) text)
          (cl-incf whole))
        (should (equal taken (cl-letf (((symbol-function 'rlm-org--harmless-p) #'ignore))
                               (rlm-test-filtered (funcall make) text size))))))
    (should (> whole 20))))

(ert-deftest rlm-test-prose-is-only-paragraphs-lists-tables-and-blocks ()
  (with-temp-buffer
    (let ((org-inhibit-startup t)) (org-mode))
    (insert (rlm-org-prose rlm-test-nasty))
    (let ((types (org-element-map (org-element-parse-buffer) org-element-all-elements
                   #'org-element-type)))
      (should-not (seq-intersection types '(headline keyword babel-call drawer property-drawer
                                                     diary-sexp comment dynamic-block))))
    (should-not (org-element-map (org-element-parse-buffer)
                    '(inline-src-block inline-babel-call link timestamp)
                  (lambda (object)
                    (or (not (eq (org-element-type object) 'link))
                        (member (org-element-property :type object) '("shell" "elisp"))))
                  nil t))))

(ert-deftest rlm-test-block-keeps-code ()
  (let ((code "x = 1\n  # note\n#+ odd\n* odd\n,* odd\n\tsrc_data[0] = '<%d>'\n"))
    (should (equal code (org-unescape-code-in-string (rlm-org-block code))))))

(ert-deftest rlm-test-long-lines-are-cut-or-broken ()
  (let ((line (apply #'concat (make-list 3000 "word "))))
    (should (string-match-p "\\`.\\{100\\}… \\[line cut\\]\n\\'" (rlm-org-block line 100)))
    (let ((lines (split-string (rlm-org-prose line) "\n" t)))
      (should (> (length lines) 2))
      (should (seq-every-p (lambda (line) (< (length line) 4100)) lines))
      (should (equal (split-string line) (split-string (rlm-org-prose line)))))))

(ert-deftest rlm-test-line-is-one-short-line ()
  (should (equal "a b c" (rlm-org-line " a\n b\tc\n")))
  (should (equal 20 (length (rlm-org-line (make-string 100 ?x) 20)))))

(ert-deftest rlm-test-figures ()
  (should (equal "1,234,567" (rlm-figure-number 1234567)))
  (should (equal "-12" (rlm-figure-number -12)))
  (should (equal "1 file" (rlm-figure-count 1 "file")))
  (should (equal "0 files" (rlm-figure-count 0 "file")))
  (should (equal "1.5 MB" (rlm-figure-size 1500000)))
  (should (equal "unknown" (rlm-figure-cost nil)))
  (should (equal "$0.00012" (rlm-figure-cost 0.00012)))
  (should (equal "less than $0.00001" (rlm-figure-cost 0.000004)))
  (should (equal "$0.00001" (rlm-figure-cost 0.000005)))
  (should (equal "2:05 min" (rlm-figure-seconds 125.4))))

;;;; Drawing a recorded run

(defconst rlm-test-question "Which files are *bold*,\nand why?"
  "The question of the recorded run.")

(defun rlm-test-drawn (events)
  "Return the text of a trajectory of EVENTS."
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create rlm-test-question))
          (old (getenv "TZ")))
      (unwind-protect
          (progn
            (set-time-zone-rule "UTC0")
            (dolist (event (rlm-test-numbered events))
              (rlm-trajectory-push buffer event))
            (rlm-trajectory-flush buffer)
            (rlm-test-buffer-text buffer))
        (set-time-zone-rule old)))))

(ert-deftest rlm-test-recorded-run-gives-the-expected-org-file ()
  (let ((text (rlm-test-drawn (rlm-test-recorded)))
        (expected (rlm-test-fixture "run.org")))
    (when (getenv "RLM_TEST_RENEW")
      (let ((coding-system-for-write 'utf-8-unix))
        (write-region text nil expected)))
    (should (equal text (rlm-test-text expected)))))

(ert-deftest rlm-test-a-run-cut-short-anywhere-leaves-whole-org ()
  "Its blocks are closed and its headings and keywords are ours."
  (let ((ours (rx bos (or "Which files" "Iteration" "Sub-call" "Tool " "Child run" "Answer" "Evidence"
                          "Kept answer to a similar question" "This answer is drawn from"
                          "Not to be found in the context" "Fork at" "Changes of" "Interrupted"
                          "Your code" "And " "Stopped by a limit")))
        (events (rlm-test-numbered (rlm-test-recorded))))
    (rlm-test-with
      (dotimes (count (length events))
        (let ((buffer (rlm-trajectory-create rlm-test-question)))
          (dolist (event (seq-take events count)) (rlm-trajectory-push buffer event))
          (rlm-trajectory-interrupt buffer "Cut short.")
          (with-current-buffer buffer
            (let ((tree (org-element-parse-buffer)))
              (should (seq-every-p (lambda (title) (string-match-p ours title))
                                   (org-element-map tree 'headline
                                     (lambda (item) (org-element-property :raw-value item)))))
              (should (equal '("TITLE" "FILETAGS" "STARTUP" "OPTIONS" "PROPERTY" "COLUMNS")
                             (org-element-map tree 'keyword
                               (lambda (item) (org-element-property :key item)))))
              (should-not (rlm-test-unclosed)))))))))

(defun rlm-test-unclosed ()
  "Return non-nil if a block of the current buffer is opened but not closed."
  (save-excursion
    (goto-char (point-min))
    (let (open wrong)
      (while (re-search-forward "^#\\+\\(begin\\|end\\)_\\([a-z]+\\)" nil t)
        (if (equal (match-string 1) "begin")
            (progn (when open (setq wrong t))
                   (setq open (match-string 2)))
          (unless (equal open (match-string 2)) (setq wrong t))
          (setq open nil)))
      (or open wrong))))

(defun rlm-test-cut-up (events random)
  "Return EVENTS with their streamed texts cut as RANDOM, a function, says."
  (mapcan (lambda (event)
            (let ((text (plist-get event :text)))
              (if (and (member (plist-get event :kind) '("replyDelta" "output"))
                       (> (length text) 1))
                  (let ((at (1+ (funcall random (1- (length text))))))
                    (list (plist-put (copy-sequence event) :text (substring text 0 at))
                          (plist-put (copy-sequence event) :text (substring text at))))
                (list event))))
          (copy-sequence events)))

(defun rlm-test-mingled (events random)
  "Return EVENTS with what belongs to different calls mingled by RANDOM.
The order of each node's own events, and of the starts of calls, stays."
  (let ((events (copy-sequence events)))
    (dotimes (_ 600)
      (let* ((at (funcall random (1- (length events))))
             (one (nth at events))
             (two (nth (1+ at) events)))
        (when (rlm-test-independent-p one two)
          (setf (nth at events) two
                (nth (1+ at) events) one))))
    events))

(defun rlm-test-independent-p (one two)
  "Return non-nil if the events ONE and TWO may come in either order."
  (let ((free '("subcallDelta" "subcallDone" "output"))
        (starts '("subcallStarted" "childStarted"))
        (kinds (list (plist-get one :kind) (plist-get two :kind))))
    (or (and (rlm-test-apart-p (plist-get one :node) (plist-get two :node))
             (not (seq-every-p (lambda (kind) (member kind starts)) kinds)))
        (and (not (equal (plist-get one :node) (plist-get two :node)))
             (or (seq-every-p (lambda (kind) (member kind free)) kinds)
                 (and (member "subcallStarted" kinds)
                      (seq-some (lambda (kind) (member kind free)) kinds)))))))

(defun rlm-test-apart-p (one two)
  "Return non-nil if the nodes ONE and TWO are below different calls of a cell.
A node is 0, and then in turn the number of an iteration and of a call."
  (let ((one (split-string one "\\."))
        (two (split-string two "\\."))
        (depth 0))
    (while (and one two (equal (car one) (car two)))
      (setq one (cdr one) two (cdr two) depth (1+ depth)))
    (and one two (cl-evenp depth))))

(ert-deftest rlm-test-order-of-concurrent-events-does-not-matter ()
  (let ((expected (rlm-test-text (rlm-test-fixture "run.org")))
        (seed 42))
    (cl-flet ((random (below)
                (setq seed (logand (+ (* seed 1103515245) 12345) #x7fffffff))
                (% (ash seed -8) below)))
      (dotimes (_ 15)
        (let ((events (rlm-test-mingled (rlm-test-cut-up (rlm-test-recorded) #'random) #'random)))
          (should (equal expected (rlm-test-drawn events))))))))

(defun rlm-test-on-the-wire (events)
  "Return EVENTS as the bytes of notifications, of two events at most."
  (mapconcat (lambda (some)
               (let ((body (json-serialize (list :jsonrpc "2.0" :method "rlm/events"
                                                 :params (list :events (vconcat some)))
                                           :null-object nil :false-object :json-false)))
                 (format "Content-Length: %d\r\n\r\n%s" (string-bytes body) body)))
             (seq-partition events 2) ""))

(ert-deftest rlm-test-traffic-of-two-runs-gives-the-expected-org-files ()
  "All the way from the wire, in pieces of every size, the two at random."
  (let* ((seed 7)
         (random (lambda (below)
                   (setq seed (logand (+ (* seed 1103515245) 12345) #x7fffffff))
                   (% (ash seed -8) below)))
         (expected (rlm-test-text (rlm-test-fixture "run.org")))
         (ids '("20260301-120000-aaaaaa" "20260301-120000-bbbbbb"))
         (runs (mapcar (lambda (id)
                         (mapcar (lambda (event) (plist-put (copy-sequence event) :runId id))
                                 (rlm-test-numbered
                                  (rlm-test-mingled (rlm-test-recorded) random))))
                       ids))
         (rest (copy-sequence runs))
         (old (getenv "TZ"))
         traffic)
    (while (seq-some #'identity rest)
      (let ((one (funcall random 2)))
        (when (nth one rest)
          (push (pop (nth one rest)) traffic))))
    (rlm-test-with
      (let ((rlm-server-command
             (append (list rlm-test-python (expand-file-name "wire_server.py" rlm-test-here)
                           (rlm-test-file "traffic" (rlm-test-on-the-wire (nreverse traffic))))
                     ids)))
        (unwind-protect
            (progn
              (set-time-zone-rule "UTC0")
              (let ((buffers (mapcar (lambda (_)
                                       (rlm-ask-files rlm-test-question
                                                      (list (rlm-test-file "a.txt" "a"))))
                                     ids)))
                (dolist (buffer buffers)
                  (let ((run (rlm-run-in-buffer buffer)))
                    (rlm-test-wait-text buffer "the limit of 1 iteration is reached")
                    (should (equal expected
                                   (string-replace (rlm-run-id run) "20260301-120000-c0ffee"
                                                   (rlm-test-buffer-text buffer))))))))
          (set-time-zone-rule old))))))

(ert-deftest rlm-test-two-runs-do-not-mingle ()
  (rlm-test-with
    (let ((one (rlm-trajectory-create "same"))
          (two (rlm-trajectory-create "same")))
      (dolist (event (rlm-test-numbered (rlm-test-first-question)))
        (rlm-trajectory-push one event)
        (rlm-trajectory-push two event))
      (rlm-test-wait (lambda ()
                       (not (or (rlm-run-live-p (rlm-run-in-buffer one))
                                (rlm-run-live-p (rlm-run-in-buffer two))))))
      (should (equal (rlm-test-buffer-text one) (rlm-test-buffer-text two))))))

(ert-deftest rlm-test-the-name-of-a-model-is-one-line ()
  "The code of a run chooses it."
  (let* ((name "x\n:END:\n* Heading\n#+begin_src sh\nboom\n#+end_src\n[[elisp:(boom)][see]]\n")
         (drawn (rlm-test-drawn
                 (mapcar (lambda (event)
                           (if (plist-member event :model)
                               (plist-put (copy-sequence event) :model name)
                             event))
                         (rlm-test-recorded)))))
    (should (string-match-p "^:RLM_MODEL: x :END: \\* Heading" drawn))
    (should-not (string-match-p "^\\* Heading\\|^boom\\|elisp:(boom)" drawn))))

(ert-deftest rlm-test-adjacent-cells-are-told-apart-by-their-fences ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "q")))
      (dolist (event (rlm-test-numbered
                      `((:kind "iterationStarted" :node "0.1" :iteration 1)
                        ,@(mapcar (lambda (part)
                                    (list :kind "replyDelta" :node "0.1"
                                          :part (car part) :text (cdr part)))
                                  '(("fence" . "```repl\n") ("code" . "first()\n")
                                    ("fence" . "```\n```repl\n") ("code" . "second()\n")
                                    ("fence" . "```\n")))
                        (:kind "replyDone" :node "0.1" :model "m" :cells 2 :seconds 1.0
                               :usage (:promptTokens 1 :completionTokens 1 :cost 0.0))
                        ,@(mapcan (lambda (cell)
                                    (list (list :kind "cellStarted" :node "0.1" :cell cell :code "")
                                          (list :kind "output" :node "0.1" :cell cell
                                                :stream "stdout" :text (format "of %d\n" cell))))
                                  '(1 2)))))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (let ((text (rlm-test-buffer-text buffer)))
        (should-not (string-search "```" text))
        (should (string-match-p
                 (rx "first()\n#+end_src" (+ anything) "of 1\n" (+ anything)
                     "#+begin_src python\nsecond()\n#+end_src" (+ anything) "of 2\n")
                 text))))))

(ert-deftest rlm-test-every-kind-of-event-is-drawn ()
  "The protocol's events, the methods that draw them and the fixture agree."
  (let ((kinds (rlm-test-python-words "from rlm_server.protocol import *
for kind in AnyEvent.__args__: print(kind.__struct_config__.tag)"))
        (recorded (mapcar (lambda (event) (plist-get event :kind)) (rlm-test-recorded))))
    (should (> (length kinds) 10))
    (dolist (kind kinds)
      (should (member kind recorded))
      (should (cl-find-method #'rlm-draw-event '() (list `(eql ',(intern kind)) t t))))))

(ert-deftest rlm-test-unknown-events-are-passed-over ()
  (should (string-match-p "^\\* Which"
                          (rlm-test-drawn (append (seq-take (rlm-test-recorded) 1)
                                                  '((:kind "fromTheFuture" :runId "x" :node "0")
                                                    (:kind "notice" :node "0" :level "info"
                                                           :text "hello")))))))

(ert-deftest rlm-test-much-output-is-shown-at-both-ends ()
  (let* ((rlm-output-limit 100)
         (output (lambda (text) (list :kind "output" :node "0.1" :cell 1 :stream "stdout"
                                      :text text)))
         (text (rlm-test-drawn
                (append (seq-take (rlm-test-recorded) 4)
                        (list '(:kind "cellStarted" :node "0.1" :cell 1 :code "f()"))
                        (mapcar (lambda (n) (funcall output (format "line %03d\n" n)))
                                (number-sequence 1 500))
                        '((:kind "cellDone" :node "0.1" :cell 1 :status "ok" :error ""
                                 :seconds 0.1 :outputCharacters 99999 :kept t))))))
    (should (string-match-p "line 001\n" text))
    (should-not (string-match-p "line 250\n" text))
    (should (string-match-p "\\[\\.\\.\\. 99,874 of 99,999 characters left out \\.\\.\\.\\]" text))
    (should (string-match-p "line 500\n#\\+end_example" text))))

(ert-deftest rlm-test-lost-variables-are-told ()
  (should (string-match-p
           "\\*Code: died\\*, after 1\\.00 s\\. Killed\\. The variables are lost\\."
           (rlm-test-drawn
            (append (seq-take (rlm-test-recorded) 4)
                    '((:kind "cellStarted" :node "0.1" :cell 1 :code "f()")
                      (:kind "cellDone" :node "0.1" :cell 1 :status "died" :error "Killed."
                             :seconds 1.0 :outputCharacters 0 :kept :json-false)))))))

;;;; Markdown in a run

(defun rlm-test-answer-events (&rest pieces)
  "Return the events of a run whose answer comes in PIECES."
  (rlm-test-numbered
   (cons (car (rlm-test-recorded))
         (mapcar (lambda (piece)
                   (list :kind "answer" :node "0" :text piece :partial :json-false
                         :evidence [] :more t))
                 pieces))))

(ert-deftest rlm-test-markdown-can-be-left-alone ()
  (let ((events (rlm-test-answer-events "It is **bold**\nand `code`.\n\n")))
    (should (string-match-p "^It is \\*bold\\*\nand ~code~\\.$" (rlm-test-drawn events)))
    (let ((rlm-convert-markdown nil))
      (should (string-match-p "^It is \\*\\*bold\\*\\*\nand `code`\\.$"
                              (rlm-test-drawn events))))))

(ert-deftest rlm-test-what-cannot-be-converted-yet-is-shown-as-it-is ()
  (let ((shown (lambda (&rest pieces)
                 (let ((text (rlm-test-drawn (apply #'rlm-test-answer-events pieces))))
                   (substring text (string-match "^\\*\\* Answer" text))))))
    (should (equal "** Answer\n\nIt is **bold " (funcall shown "It is **bo" "ld ")))
    (should (equal "** Answer\n\nIt is *bold* now.\n"
                   (funcall shown "It is **bo" "ld** now.\n" "\n")))
    (should (equal "** Answer\n\n#+begin_src sh\nls\n\n#+end_src\n"
                   (funcall shown "``" "`sh\nl" "s\n")))
    (should (equal "** Answer\n\n- a\n- *b*\n\nend\n"
                   (funcall shown "- a\n- **b" "**\n" "\nend\n" "")))))

(ert-deftest rlm-test-a-reader-stays-where-the-text-stays ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "x")))
      (switch-to-buffer buffer)
      (dolist (event (rlm-test-answer-events "plain line\nsecond **line**\n"))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (goto-char (point-min))
      (search-forward "plain l")
      (rlm-trajectory-push buffer '(:kind "answer" :node "0" :text "\nmore\n" :seq 2 :evidence []
                                          :partial :json-false :more t))
      (rlm-trajectory-flush buffer)
      (should (looking-back "plain l" (line-beginning-position)))
      (should (string-match-p "second \\*line\\*$" (rlm-test-buffer-text buffer))))))

;;;; The buffer of a run

(defmacro rlm-test-with-run (buffer &rest body)
  "Evaluate BODY with BUFFER bound to a trajectory that is shown.
The events of its first question are in the variable `events'."
  (declare (indent 1) (debug t))
  `(rlm-test-with
     (let ((,buffer (rlm-trajectory-create rlm-test-question))
           (events (rlm-test-numbered (rlm-test-first-question))))
       (ignore events)
       (switch-to-buffer ,buffer)
       ,@body)))

(defun rlm-test-push-all (buffer events)
  "Let BUFFER draw EVENTS now."
  (dolist (event events) (rlm-trajectory-push buffer event))
  (rlm-trajectory-flush buffer))

(ert-deftest rlm-test-further-question-is-drawn-below-the-answer ()
  (rlm-test-with-run buffer
    (rlm-test-push-all buffer events)
    (let* ((ended 0)
           (rlm-after-run-functions (list (lambda (_) (cl-incf ended))))
           (all (rlm-test-numbered (rlm-test-recorded)))
           (further (seq-position all "followUp" (lambda (event kind)
                                                   (equal kind (plist-get event :kind)))))
           (run (rlm-run-in-buffer buffer)))
      ;; An end that follows code of the user's own changes figures alone.
      (rlm-test-push-all buffer (seq-take all further))
      (should (equal "done" (rlm-run-status run)))
      (should (equal "3,664" (rlm-figure-number (rlm-run-tokens run))))
      (should (zerop ended))
      (should (equal 1 (how-many "^\\*\\* Answer" (point-min) (point-max))))
      (rlm-test-push-all buffer (seq-take all (+ 2 further)))
      (should (rlm-run-live-p run))
      (should (equal "And *which* are not?\nSay why." (rlm-run-asked run)))
      (should (string-match-p "^ running | asking" (rlm-header)))
      (should-not (rlm-run-answer run))
      (rlm-test-push-all buffer all)
      (should (equal '("limit" "None is left." 1)
                     (list (rlm-run-status run) (rlm-run-answer run) ended)))
      (should (string-match-p "^\\* And .*which" (rlm-test-text (rlm-run-transcript run)))))))

(ert-deftest rlm-test-code-that-waits-is-seen-everywhere ()
  (rlm-test-with-run buffer
    (let* ((run (rlm-run-in-buffer buffer))
           (wanted (seq-position events "approvalWanted"
                                 (lambda (event kind) (equal kind (plist-get event :kind)))))
           (marks (lambda ()
                    (delq nil (mapcar (lambda (overlay) (overlay-get overlay 'display))
                                      (overlays-in (point-min) (point-max)))))))
      (rlm-test-push-all buffer (seq-take events (1+ wanted)))
      (should (equal '("0.2" 1) (let ((wait (car (rlm-run-waiting run))))
                                  (list (plist-get wait :node) (plist-get wait :cell)))))
      (should (equal 2 (length (funcall marks))))
      (should (seq-some (lambda (text) (string-search "C-c C-c runs it" text)) (funcall marks)))
      (should (string-match-p "code waits for you: C-c C-c" (rlm-header)))
      (should (equal " waits" (substring-no-properties (rlm-draw-mode-line))))
      (should-not (string-search "waits" (rlm-test-buffer-text buffer)))
      ;; It waits while the user's own code runs, and not once it is decided about.
      (rlm-test-push-all buffer (seq-take events (+ 6 wanted)))
      (should (rlm-run-waiting run))
      (rlm-test-push-all buffer events)
      (should-not (rlm-run-waiting run))
      (should-not (funcall marks))
      (should (equal "" (rlm-draw-mode-line))))))

(ert-deftest rlm-test-run-that-was-cut-short-before-its-first-event-is-told ()
  (rlm-test-with
    (let* ((buffer (rlm-trajectory-create rlm-test-question))
           (old (rlm-trajectory-create rlm-test-question))
           told
           (rlm-after-run-functions (list (lambda (_run) (push (current-buffer) told)))))
      (rlm-trajectory-interrupt buffer "The server was killed.")
      ;; One whose log is only drawn was told of when it ended.
      (rlm-trajectory-expect old 3)
      (rlm-trajectory-interrupt old "The server was killed.")
      (should (equal (list buffer) told)))))

(ert-deftest rlm-test-code-that-waited-when-the-run-was-cut-short-waits-no-more ()
  (rlm-test-with-run buffer
    (let* ((run (rlm-run-in-buffer buffer))
           (wanted (seq-position events "approvalWanted"
                                 (lambda (event kind) (equal kind (plist-get event :kind)))))
           (begun (seq-take events (1+ wanted)))
           (last (plist-get (car (last begun)) :seq))
           (resumed (copy-sequence (seq-find (lambda (event)
                                               (equal "runResumed" (plist-get event :kind)))
                                             events)))
           (again (copy-sequence (car (last begun)))))
      (rlm-test-push-all buffer begun)
      (rlm-trajectory-interrupt buffer "The server was killed.")
      (should-not (rlm-run-waiting run))
      (should-not (string-match-p "waits" (rlm-header)))
      ;; As its log is drawn once it has been resumed: it has been asked about twice.
      (rlm-trajectory-reset buffer)
      (setq run (rlm-run-in-buffer buffer))
      (rlm-test-push-all buffer (append begun
                                        (list (plist-put resumed :seq (+ 1 last))
                                              (plist-put again :seq (+ 2 last)))))
      (should (equal 1 (length (rlm-run-waiting run)))))))

(ert-deftest rlm-test-code-that-waits-out-of-sight-is-told-once ()
  (rlm-test-with-run buffer
    (let* ((process-environment (cons "DBUS_SESSION_BUS_ADDRESS" process-environment))
           (wanted (seq-position events "approvalWanted"
                                 (lambda (event kind) (equal kind (plist-get event :kind)))))
           (told (lambda ()
                   (seq-count (lambda (line) (string-prefix-p "rlm: Code waits for you" line))
                              (rlm-test-messages
                                (rlm-test-push-all buffer (seq-take events (1+ wanted))))))))
      (switch-to-buffer "*scratch*")
      (should (equal 1 (funcall told)))
      (should (equal 0 (funcall told)))
      (setq buffer (rlm-trajectory-create rlm-test-question))
      (with-current-buffer buffer
        (setq rlm-trajectory--replayed (length events)))
      (should (equal 0 (funcall told))))))

(ert-deftest rlm-test-paused-run-is-seen ()
  (rlm-test-with-run buffer
    (let ((paused (seq-position events "paused" (lambda (event kind)
                                                  (equal kind (plist-get event :kind))))))
      (rlm-test-push-all buffer (seq-take events (1+ paused)))
      (should (string-match-p "paused, P goes on" (rlm-header)))
      (should (equal " paused" (substring-no-properties (rlm-draw-mode-line))))
      (rlm-test-push-all buffer events)
      (should (equal "" (rlm-draw-mode-line))))))

(ert-deftest rlm-test-follows-only-at-the-end ()
  (rlm-test-with-run buffer
    (should (eobp))
    (dolist (event (seq-take events 20)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should (eobp))
    (goto-char (point-min))
    (forward-line 5)
    (let ((here (point)))
      (dolist (event (seq-drop events 20)) (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (should (= here (point))))))

(ert-deftest rlm-test-follower-ends-at-the-answer ()
  (rlm-test-with-run buffer
    (goto-char (point-max))
    (dolist (event events) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should (looking-at "\\*\\* Answer"))))

(ert-deftest rlm-test-finished-iterations-are-folded ()
  (rlm-test-with-run buffer
    (goto-char (point-max))
    (dolist (event events) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (goto-char (point-min))
    (search-forward "I look at what")
    (should (invisible-p (point)))
    (search-forward "Two files are bold")
    (should-not (invisible-p (point)))
    (rlm-trajectory-previous 1)
    (should (looking-at "\\*\\* Answer"))
    (rlm-trajectory-previous 3)
    (should (looking-at "\\*\\* Your code 1"))
    (rlm-trajectory-previous 1)
    (should (looking-at "\\*\\* Iteration 2"))))

;; Org 9.7 hides the last newline of the buffer with the text before it.
(ert-deftest rlm-test-a-heading-after-a-fold-begins-a-line ()
  (dolist (fold (list #'ignore
                      (lambda ()
                        (goto-char (point-max))
                        (outline-back-to-heading t)
                        (if (fboundp 'org-fold-subtree)
                            (org-fold-subtree t)
                          (with-no-warnings (org-flag-subtree t))))))
    (dotimes (cut (length (rlm-test-recorded)))
      (rlm-test-with-run buffer
        (dolist (event (seq-take events cut)) (rlm-trajectory-push buffer event))
        (rlm-trajectory-flush buffer)
        (funcall fold)
        (rlm-trajectory-interrupt buffer "Cut short.")
        (goto-char (point-min))
        (while (re-search-forward "^\\*\\*" nil t)
          (let ((at (match-beginning 0)))
            (should-not (and (invisible-p (1- at)) (not (invisible-p at))))))))))

(ert-deftest rlm-test-what-is-added-to-a-folded-heading-is-hidden ()
  (let (kinds)
    (dolist (event (rlm-test-first-question))
      (unless (assoc (plist-get event :kind) kinds)
        (push (cons (plist-get event :kind) (1+ (plist-get event :seq))) kinds)))
    (pcase-dolist (`(,_ . ,cut) kinds)
      (rlm-test-with-run buffer
        (rlm-test-push-all buffer (seq-take events cut))
        (goto-char (point-max))
        (when (re-search-backward "^\\*\\* " nil t)
          (if (fboundp 'org-fold-subtree)
              (org-fold-subtree t)
            (with-no-warnings (org-flag-subtree t))))
        (goto-char (point-min))
        (dolist (some (seq-partition (seq-drop events cut) 6))
          (rlm-test-push-all buffer some)
          (should-not (save-excursion (rlm-test-shown-below-folds))))))))

(ert-deftest rlm-test-who-reads-above-has-finished-iterations-folded ()
  (rlm-test-with-run buffer
    (switch-to-buffer buffer)
    (dolist (event (seq-take events 3)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (goto-char (point-min))
    (dolist (event (seq-drop events 3)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should (bobp))
    (search-forward "I look at what")
    (should (invisible-p (point)))))

(ert-deftest rlm-test-nobody-is-folded-away-while-reading ()
  (rlm-test-with-run buffer
    (dolist (event (seq-take events 12)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (goto-char (point-min))
    (search-forward "I look at")
    (dolist (event (seq-drop events 12)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should-not (invisible-p (point)))))

(ert-deftest rlm-test-what-is-not-in-the-context-is-marked-in-the-answer ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create rlm-test-question)))
      (dolist (event (rlm-test-first-question))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (with-current-buffer buffer
        (should (equal '("Two files are bold:" "notes.txt:3" "That is all.")
                       (mapcar (lambda (overlay)
                                 (buffer-substring-no-properties (overlay-start overlay)
                                                                 (overlay-end overlay)))
                               (sort (seq-filter (lambda (overlay)
                                                   (eq (overlay-get overlay 'face)
                                                       'rlm-unverified))
                                                 (overlays-in (point-min) (point-max)))
                                     (lambda (a b) (< (overlay-start a) (overlay-start b)))))))
        (goto-char (point-min))
        (search-forward "notes.txt:2 to line 9")
        (should (equal '("rlm-buffer:notes.txt" 2)
                       (get-text-property (line-beginning-position) 'rlm-evidence)))
        (should (equal "This answer is drawn from 3.3 % of the context"
                       (rlm-provenance-sentence
                        (rlm-run-provenance (rlm-run-in-buffer buffer)))))))))

(ert-deftest rlm-test-shares-say-neither-nothing-nor-all-where-it-is-not-so ()
  (should (equal '("nothing" "less than 0.1 %" "2.5 %" "3 %" "34 %" "over 99 %" "100 %" "nothing")
                 (list (rlm-provenance-share 0 100) (rlm-provenance-share 1 100000)
                       (rlm-provenance-share 25 1000) (rlm-provenance-share 30 1000)
                       (rlm-provenance-share 337 1000) (rlm-provenance-share 9999 10000)
                       (rlm-provenance-share 7 7) (rlm-provenance-share 0 0)))))

(ert-deftest rlm-test-drawing-is-cut-into-slices ()
  (rlm-test-with-run buffer
    (dolist (event events) (rlm-trajectory-push buffer event))
    (should-not (rlm-trajectory--flush buffer (float-time)))
    (rlm-test-wait-end buffer)))

(ert-deftest rlm-test-one-bad-event-does-not-stop-the-rest ()
  (rlm-test-with-run buffer
    (let ((bad (seq-copy events)))
      (setf (nth 3 bad) '(:kind "iterationStarted" :seq 3 :node 17))
      (dolist (event bad) (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (should (equal "done" (rlm-run-status (rlm-run-in-buffer buffer))))
      (should (string-match-p "Two files are bold" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-test-user-may-narrow ()
  (rlm-test-with-run buffer
    (dolist (event (seq-take events 20)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (narrow-to-region (point-min) (+ 10 (point-min)))
    (dolist (event (seq-drop events 20)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should (= 10 (- (point-max) (point-min))))
    (widen)
    (should (string-match-p "Two files are bold" (rlm-test-buffer-text buffer)))))

(ert-deftest rlm-test-header-line-tells-the-figures ()
  (rlm-test-with-run buffer
    (should (string-match-p "asking" (rlm-header)))
    (dolist (event events) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (should (equal (substring-no-properties (rlm-header))
                   (concat " done | a similar question's answer, A asks anew | 0:21 | $0.03"
                           " | 3,554 tokens | iteration 2 | sub-calls 3/3 | 3 cached | ? help")))))

(ert-deftest rlm-test-header-line-has-what-counts-in-80-columns ()
  (rlm-test-with-run buffer
    (dolist (event (seq-take-while (lambda (event) (not (equal "runEnded" (plist-get event :kind))))
                                   events))
      (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (let ((shown (truncate-string-to-width (rlm-header) 80)))
      (should (string-match-p "[█#]*[░-]* [0-9]+% of " shown))
      (should (string-match-p " | [0-9:]+ | \\$0\\.0" shown)))))

(ert-deftest rlm-test-run-is-known-after-its-end ()
  (rlm-test-with-run buffer
    (let (got)
      (add-hook 'rlm-after-run-functions (lambda (_) (error "A bad hook")))
      (add-hook 'rlm-after-run-functions (lambda (run) (setq got run)) t)
      (dolist (event events) (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (should (equal "done" (rlm-run-status got)))
      (should (string-match-p "Two files are bold" (rlm-run-answer got)))
      (should (equal '(("/home/someone/src/a b.py" 12 "src/a b.py" "bold = \"*bold*\"  # [[x]]")
                       ("rlm-buffer:notes.txt" 3 "notes.txt" ""))
                     (rlm-run-evidence got)))
      (should (file-exists-p (rlm-run-transcript got))))))

(defun rlm-test-uri (file)
  "Return the URI of FILE."
  (concat "file://" (url-hexify-string file (url--allowed-chars
                                             (cons ?/ url-unreserved-chars)))))

(ert-deftest rlm-test-evidence-leads-to-its-line ()
  (rlm-test-with
    (let* ((file (rlm-test-file "some dir/ä#%41.txt" "one\ntwo\nthree\n"))
           (buffer (rlm-trajectory-create "x"))
           (place (lambda (uri line)
                    (list :location (list :uri uri :range
                                          (list :start (list :line (1- line) :character 0)))
                          :path "p" :line line :quote "q"))))
      (with-current-buffer (generate-new-buffer "odd: name %20")
        (insert "a\nb\n")
        (narrow-to-region 1 1))
      (dolist (event (rlm-test-numbered
                      (list (car (rlm-test-recorded))
                            (list :kind "answer" :node "0" :text "See." :partial :json-false
                                  :evidence
                                  (vector (funcall place (rlm-test-uri file) 2)
                                          (funcall place "rlm-buffer:odd: name %20" 2)
                                          (funcall place "file:///is/gone" 1))))))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (switch-to-buffer buffer)
      (goto-char (point-max))
      (forward-line -1)
      (should-error (rlm-trajectory-follow-link) :type 'user-error)
      (forward-line -1)
      (save-window-excursion
        (rlm-trajectory-follow-link)
        (should (looking-at "b$")))
      (forward-line -1)
      (rlm-trajectory-follow-link)
      (should (equal buffer-file-name file))
      (should (looking-at "two$")))))

(ert-deftest rlm-test-links-that-run-something-are-not-followed ()
  (rlm-test-with-run buffer
    (let ((inhibit-read-only t))
      (goto-char (point-max))
      (insert "[[shell:touch evil][x]]\n")
      (forward-line -1))
    (should-error (rlm-trajectory-follow-link) :type 'user-error)))

;;;; Transcripts

(ert-deftest rlm-test-transcript-opens-without-rlm ()
  (rlm-test-with-run buffer
    (dolist (event events) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (let ((file (rlm-run-transcript (rlm-run-in-buffer buffer))))
      (with-temp-buffer
        (should (zerop (call-process
                        (expand-file-name invocation-name invocation-directory) nil t nil
                        "-Q" "--batch" file "--eval"
                        "(progn (unless (derived-mode-p 'org-mode) (error \"Not Org\"))
                                (unless (equal \"done\" (org-with-point-at (save-excursion (re-search-forward \"^\\\\* \") (point))
                                                (org-entry-get nil \"RLM_STATUS\")))
                                  (error \"No status\"))
                                (search-forward \"I look at what\")
                                (unless (invisible-p (point)) (error \"Not folded\")))"
                        "--eval" "(kill-emacs 0)")))))))

(ert-deftest rlm-test-transcript-sets-no-local-variables ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "x")))
      (dolist (event (rlm-test-numbered
                      (append (seq-take (rlm-test-recorded) 1)
                              (list (list :kind "answer" :node "0" :partial :json-false
                                          :evidence []
                                          :text "Local Variables:\neval: (error \"evil\")\nEnd:"))
                              (last (rlm-test-recorded)))))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (let ((enable-local-variables :all)
            (enable-local-eval t))
        (with-current-buffer (find-file-noselect
                              (rlm-run-transcript (rlm-run-in-buffer buffer)))
          (should (derived-mode-p 'org-mode)))))))

(ert-deftest rlm-test-transcript-that-cannot-be-saved-is-not-lost ()
  (rlm-test-with-run buffer
    (setq rlm-transcript-directory (concat (rlm-test-file "file" "x") "/below/"))
    (let (said)
      (cl-letf (((symbol-function 'message)
                 (lambda (format &rest arguments) (push (apply #'format format arguments) said))))
        (dolist (event events) (rlm-trajectory-push buffer event))
        (rlm-trajectory-flush buffer))
      (should (seq-some (lambda (text) (string-match-p "can't be saved" text)) said)))
    (should (string-match-p "Two files are bold" (rlm-test-buffer-text buffer)))
    (should-not (rlm-run-transcript (rlm-run-in-buffer buffer)))
    (setq rlm-transcript-directory (rlm-test-file "better/"))
    (rlm-trajectory-save)
    (should (file-exists-p (rlm-run-transcript (rlm-run-in-buffer buffer))))))

(ert-deftest rlm-test-interrupted-run-is-saved ()
  (rlm-test-with-run buffer
    (dolist (event (seq-take events 16)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-interrupt buffer "The server was killed.")
    (let* ((run (rlm-run-in-buffer buffer))
           (text (rlm-test-text (rlm-run-transcript run))))
      (should (equal "interrupted" (rlm-run-status run)))
      (should (string-match-p "^\\*\\* Interrupted\n\nThe server was killed\\." text))
      (should (string-match-p "^:RLM_STATUS: interrupted" text))
      (should-not (rlm-test-unclosed)))))

(ert-deftest rlm-test-replay-of-a-damaged-log ()
  "Events that are missing in the middle of a log don't stop its replay."
  (rlm-test-with-run buffer
    (rlm-trajectory-expect buffer 30)
    (dolist (event (seq-take events 31))
      (unless (memq (plist-get event :seq) '(3 4 5 12 13 20))
        (rlm-trajectory-push buffer event)))
    (rlm-trajectory-flush buffer)
    (should (equal "interrupted" (rlm-run-status (rlm-run-in-buffer buffer))))
    (should-not (rlm-test-unclosed))
    (should-not (rlm-run-transcript (rlm-run-in-buffer buffer)))))

;;;; Contexts

(defmacro rlm-test-in-file (name text &rest body)
  "Evaluate BODY in a buffer that visits a new file NAME with TEXT."
  (declare (indent 2) (debug t))
  `(rlm-test-with
     (with-current-buffer (find-file-noselect (rlm-test-file ,name ,text))
       ,@body)))

(defun rlm-test-source (context)
  "Return the only source of CONTEXT."
  (should (= 1 (length (rlm-context-sources context))))
  (car (rlm-context-sources context)))

(ert-deftest rlm-test-unmodified-buffer-goes-as-its-file ()
  (rlm-test-in-file "a.txt" "text\n"
    (let ((context (rlm-context-of-buffer)))
      (should (equal (list :kind "file" :path buffer-file-name) (rlm-test-source context)))
      (should-not (rlm-context-spool context)))))

(ert-deftest rlm-test-modified-buffer-is-spooled ()
  (rlm-test-in-file "a.txt" "text\n"
    (goto-char (point-max))
    (insert "more ä\n")
    (let* ((context (rlm-context-of-buffer))
           (source (rlm-test-source context)))
      (should (equal "text\nmore ä\n" (rlm-test-text (plist-get source :path))))
      (should (equal buffer-file-name (plist-get source :origin)))
      (should (equal "a.txt" (plist-get source :name)))
      (should (= 1 (plist-get source :firstLine)))
      (should (= #o700 (file-modes (rlm-context-spool context))))
      (should (= #o600 (file-modes (plist-get source :path))))
      (rlm-context-release context)
      (should-not (file-exists-p (plist-get source :path)))
      (should (directory-empty-p temporary-file-directory)))))

(ert-deftest rlm-test-buffer-whose-file-changed-meanwhile-is-spooled ()
  (rlm-test-in-file "a.txt" "text\n"
    (write-region "other\n" nil buffer-file-name nil 'silent)
    (set-file-times buffer-file-name (time-add nil 100))
    (should (equal "text\n" (rlm-test-text
                             (plist-get (rlm-test-source (rlm-context-of-buffer)) :path))))))

(ert-deftest rlm-test-buffer-in-another-coding-is-spooled ()
  (rlm-test-with
    (let ((file (rlm-test-file "latin.txt"))
          (coding-system-for-write 'latin-1))
      (write-region "äöü\n" nil file nil 'silent)
      (with-current-buffer (let ((coding-system-for-read 'latin-1)) (find-file-noselect file))
        (let ((path (plist-get (rlm-test-source (rlm-context-of-buffer)) :path)))
          (should-not (equal path file))
          (should (equal "äöü\n" (rlm-test-text path))))))))

(ert-deftest rlm-test-compressed-file-is-spooled ()
  (skip-unless (executable-find "gzip"))
  (auto-compression-mode 1)
  (rlm-test-with
    (let ((file (rlm-test-file "a.txt.gz")))
      (with-temp-buffer (insert "zipped\n") (write-region nil nil file nil 'silent))
      (with-current-buffer (find-file-noselect file)
        (should (equal "zipped\n"
                       (rlm-test-text
                        (plist-get (rlm-test-source (rlm-context-of-buffer)) :path)))))
      (should (equal "zipped\n"
                     (rlm-test-text (plist-get (rlm-test-source (rlm-context-of-files
                                                                 (list file) "x"))
                                               :path)))))))

(ert-deftest rlm-test-raw-bytes-are-spooled ()
  (rlm-test-with
    (with-temp-buffer
      (insert "a" (unibyte-char-to-multibyte 200) "b\n")
      (let ((path (plist-get (rlm-test-source (rlm-context-of-buffer)) :path)))
        (should (equal "a\310b\n" (with-temp-buffer
                                    (set-buffer-multibyte nil)
                                    (insert-file-contents-literally path)
                                    (buffer-string))))))))

(ert-deftest rlm-test-narrowing-is-respected ()
  (rlm-test-in-file "a.txt" "one\ntwo\nthree\nfour\n"
    (goto-char (point-min))
    (forward-line 1)
    (narrow-to-region (point) (progn (forward-line 2) (point)))
    (let ((source (rlm-test-source (rlm-context-of-buffer))))
      (should (equal "two\nthree\n" (rlm-test-text (plist-get source :path))))
      (should (= 2 (plist-get source :firstLine)))
      (should (equal buffer-file-name (plist-get source :origin))))))

(ert-deftest rlm-test-region-knows-its-line ()
  (rlm-test-in-file "a.txt" "one\ntwo\nthree\nfour\n"
    (goto-char (point-min))
    (search-forward "tw")
    (let* ((beg (point))
           (source (progn (search-forward "thr")
                          (rlm-test-source (rlm-context-of-region beg (point))))))
      (should (equal "o\nthr" (rlm-test-text (plist-get source :path))))
      (should (= 2 (plist-get source :firstLine))))))

(ert-deftest rlm-test-buffer-without-a-file-is-named ()
  (rlm-test-with
    (with-current-buffer (generate-new-buffer "*some notes*")
      (insert "x\n")
      (let ((source (rlm-test-source (rlm-context-of-buffer))))
        (should (equal "rlm-buffer:*some notes*" (plist-get source :origin)))
        (should (equal "some-notes" (plist-get source :name)))))))

(ert-deftest rlm-test-nothing-to-ask-about-is-a-user-error ()
  (rlm-test-with
    (with-temp-buffer
      (should-error (rlm-context-of-buffer) :type 'user-error)
      (insert " \n\t\n")
      (should-error (rlm-context-of-buffer) :type 'user-error)
      (should-error (rlm-context-of-region 2 2) :type 'user-error)
      (should-error (rlm-context-of-region 1 4) :type 'user-error)
      (should-error (rlm-context-of-files nil "x") :type 'user-error)
      (should-error (rlm-context-of-files '("/is/gone") "x") :type 'user-error))
    (should (directory-empty-p temporary-file-directory))))

(ert-deftest rlm-test-unsaved-changes-below-a-directory-go-along ()
  (rlm-test-with
    (let* ((saved (rlm-test-file "tree/a.txt" "old\n"))
           (new (rlm-test-file "tree/sub/new.txt"))
           (outside (rlm-test-file "tree-other/b.txt" "old\n")))
      (make-directory (file-name-directory new))
      (dolist (file (list saved new outside))
        (with-current-buffer (find-file-noselect file)
          (goto-char (point-min))
          (insert "unsaved ")))
      (let* ((context (rlm-context-of-directory (rlm-test-file "tree/") "x"))
             (overlays (rlm-context-overlays context))
             (added (cadr (rlm-context-sources context))))
        (should (equal (list :kind "tree" :root (directory-file-name (rlm-test-file "tree/")))
                       (car (rlm-context-sources context))))
        (should (= 1 (length overlays)))
        (should (equal saved (plist-get (car overlays) :path)))
        (should (equal "unsaved old\n" (rlm-test-text (plist-get (car overlays) :spool))))
        (should (equal new (plist-get added :origin)))
        (should (equal "sub/new.txt" (plist-get added :name)))
        (should (equal "unsaved " (rlm-test-text (plist-get added :path))))))))

(ert-deftest rlm-test-globs-are-sent-along ()
  (rlm-test-with
    (let ((rlm-include '("*.el"))
          (rlm-exclude '("test/")))
      (should (equal (list :kind "tree" :root (directory-file-name rlm-test-directory)
                           :include ["*.el"] :exclude ["test/"])
                     (rlm-test-source (rlm-context-of-directory rlm-test-directory "x")))))))

(ert-deftest rlm-test-files-are-named-below-their-directory ()
  (rlm-test-with
    (let ((files (list (rlm-test-file "a/..odd/one.txt" "1") (rlm-test-file "a/two.txt" "2")
                       (rlm-test-file "three.txt" "3"))))
      (should (equal '("..odd/one.txt" "two.txt" nil)
                     (mapcar (lambda (source) (plist-get source :name))
                             (rlm-context-sources
                              (rlm-context-of-files files "x" (rlm-test-file "a/")))))))))

(ert-deftest rlm-test-failure-leaves-no-spool-behind ()
  (rlm-test-in-file "tree/a.txt" "x\n"
    (insert "unsaved")
    (cl-letf (((symbol-function 'rlm-context--unsaved-buffers) (lambda (_) (error "Odd"))))
      (should-error (rlm-context-of-files (list buffer-file-name default-directory) "x")))
    (should (directory-empty-p temporary-file-directory))
    (should-not rlm-context--spools)))

(ert-deftest rlm-test-dired-marks ()
  (rlm-test-with
    (rlm-test-file "tree/a.txt" "x\n")
    (rlm-test-file "tree/b.txt" "x\n")
    (rlm-test-file "tree/sub/c.txt" "x\n")
    (with-current-buffer (dired-noselect (rlm-test-file "tree/"))
      (goto-char (point-min))
      (should-not (rlm-dired-marked-p))
      (should (equal (list (rlm-test-file "tree/")) (rlm-dired-files)))
      (dired-goto-file (rlm-test-file "tree/b.txt"))
      (should (equal (list (rlm-test-file "tree/b.txt")) (rlm-dired-files)))
      (dired-mark 1)
      (dired-goto-file (rlm-test-file "tree/sub"))
      (dired-mark 1)
      (should (rlm-dired-marked-p))
      (should (equal (list (rlm-test-file "tree/b.txt") (rlm-test-file "tree/sub"))
                     (rlm-dired-files)))
      (let ((sources (rlm-context-sources
                      (rlm-context-of-files (rlm-dired-files) "x" default-directory))))
        (should (equal (list (list :kind "file" :path (rlm-test-file "tree/b.txt") :name "b.txt")
                             (list :kind "tree" :root (rlm-test-file "tree/sub") :name "sub"))
                       sources))))))

(ert-deftest rlm-test-ask-does-what-is-meant ()
  (rlm-test-with
    (let (called)
      (cl-letf (((symbol-function 'call-interactively) (lambda (command) (setq called command)))
                ((symbol-function 'rlm-project-root) (lambda () nil)))
        (with-temp-buffer
          (insert "text")
          (rlm-ask)
          (should (eq called #'rlm-ask-buffer))
          (transient-mark-mode 1)
          (set-mark (point-min))
          (activate-mark)
          (rlm-ask)
          (should (eq called #'rlm-ask-region))
          (deactivate-mark)
          (cl-letf (((symbol-function 'rlm-project-root) (lambda () "/")))
            (rlm-ask)
            (should (eq called #'rlm-ask-project))))
        (rlm-test-file "a.txt" "x")
        (with-current-buffer (dired-noselect rlm-test-directory)
          (rlm-ask)
          (should (eq called #'rlm-ask-dired))
          (cl-letf (((symbol-function 'rlm-project-root) (lambda () "/")))
            (rlm-ask)
            (should (eq called #'rlm-ask-project))
            (dired-goto-file (rlm-test-file "a.txt"))
            (dired-mark 1)
            (rlm-ask)
            (should (eq called #'rlm-ask-dired))))))))

;;;; The connection

(defun rlm-test-ask-odd ()
  "Ask the odd server a question about a buffer; return the run's buffer."
  (with-current-buffer (generate-new-buffer "odd text")
    (insert "text\n")
    (rlm-ask-buffer "odd?")))

(ert-deftest rlm-test-events-before-the-reply-are-kept ()
  (rlm-test-with-odd-server '("early")
    (let ((run (rlm-test-wait-end (rlm-test-ask-odd))))
      (should (equal "done" (rlm-run-status run)))
      (should (equal "odd answer" (rlm-run-answer run)))
      (should-not rlm-client--strays))))

(ert-deftest rlm-test-missing-events-are-asked-for ()
  (rlm-test-with-odd-server '("gap")
    (let ((run (rlm-test-wait-end (rlm-test-ask-odd))))
      (should (equal "odd answer" (rlm-run-answer run)))
      (should (equal '(1) (mapcar (lambda (params) (plist-get params :fromSeq))
                                  (rlm-test-requests "rlm/attach")))))))

(ert-deftest rlm-test-missing-events-are-asked-for-again ()
  (rlm-test-with-odd-server '("gap" "balks")
    (let ((run (rlm-test-wait-end (rlm-test-ask-odd))))
      (should (equal "odd answer" (rlm-run-answer run)))
      (should (= 2 (length (rlm-test-requests "rlm/attach")))))))

(ert-deftest rlm-test-a-run-that-can-not-be-opened-is-not-live ()
  (rlm-test-with
    (setq rlm-server-command '("/is/not/there"))
    (let ((buffer (rlm-client-open (list :runId "20260101-000000-abcdef" :question "odd?"))))
      (should-not (rlm-run-live-buffers))
      (should (string-match-p "/is/not/there" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-test-a-buffer-that-can-not-be-shown-gets-its-answer ()
  (rlm-test-with-odd-server '()
    (let ((rlm-client-display-function (lambda (_) (error "No room"))))
      (should (equal "odd answer"
                     (rlm-run-answer (rlm-test-wait-end (rlm-test-ask-odd))))))))

(ert-deftest rlm-test-paid-question-is-confirmed ()
  (rlm-test-with-odd-server '("paid")
    (let (prompt)
      (cl-letf (((symbol-function 'y-or-n-p) (lambda (text) (setq prompt text) t)))
        (rlm-test-wait-end (rlm-test-ask-odd)))
      (dolist (part '("3 files" "1.2 MB" "300,000 tokens" "2 binary" "big and small"
                      "\\$0.12" "\\$1.00"))
        (should (string-match-p part prompt)))
      (should (= 1 (length (rlm-test-requests "rlm/ask")))))))

(ert-deftest rlm-test-declined-question-leaves-nothing ()
  (dolist (answer (list (lambda (_) nil) (lambda (_) (signal 'quit nil))))
    (rlm-test-with-odd-server '("paid")
      (let (asked)
        (cl-letf (((symbol-function 'y-or-n-p)
                   (lambda (text) (setq asked t) (funcall answer text))))
          (let ((buffer (rlm-test-ask-odd)))
            (rlm-test-wait (lambda () asked))
            (rlm-test-wait (lambda () (not (buffer-live-p buffer))))))
        (should-not (rlm-test-requests "rlm/ask"))
        (should-not (rlm-run-live-buffers))
        (should (directory-empty-p temporary-file-directory))))))

(ert-deftest rlm-test-confirmation-follows-the-option ()
  (dolist (case '((t () t) (nil ("paid") nil) (cost () nil)))
    (pcase-let ((`(,option ,words ,expected) case))
      (rlm-test-with-odd-server words
        (let ((rlm-confirm option) asked)
          (cl-letf (((symbol-function 'y-or-n-p) (lambda (_) (setq asked t))))
            (rlm-test-wait-end (rlm-test-ask-odd)))
          (should (eq expected asked))
          (should (eq (null option) (null (rlm-test-requests "rlm/estimate")))))))))

(ert-deftest rlm-test-options-of-the-asking-buffer-are-sent ()
  (rlm-test-with-odd-server '()
    (with-temp-buffer
      (insert "text\n")
      (setq-local rlm-root-model "mine"
                  rlm-limits '((cost . 0.5) (cell-seconds . 10)))
      (rlm-test-wait-end (rlm-ask-buffer "odd?")))
    (should (equal '(:rootModel "mine" :limits (:cost 0.5 :cellSeconds 10))
                   (plist-get (car (rlm-test-requests "rlm/ask")) :options)))
    (should (equal (plist-get (car (rlm-test-requests "rlm/ask")) :options)
                   (plist-get (car (rlm-test-requests "rlm/estimate")) :options)))))

(ert-deftest rlm-test-who-quits-the-passphrase-asks-without-those-keys ()
  (rlm-test-with-odd-server '("keys")
    (let ((rlm-use-auth-source t))
      (cl-letf (((symbol-function 'auth-source-search) (lambda (&rest _) (signal 'quit nil))))
        (rlm-test-wait-end (rlm-test-ask-odd))
        (should-not (rlm-test-requests "rlm/keys"))
        (should (rlm-test-requests "rlm/ask"))))))

(ert-deftest rlm-test-a-key-that-can-not-be-read-keeps-nothing-back ()
  (rlm-test-with-odd-server '("keys")
    (let ((rlm-use-auth-source t))
      (dolist (secret (list (lambda () (error "Locked")) #'ignore))
        (cl-letf (((symbol-function 'auth-source-search)
                   (lambda (&rest _) (list (list :secret secret)))))
          (rlm-test-wait-end (rlm-test-ask-odd))
          (should-not (rlm-test-requests "rlm/keys"))
          (rlm-rpc-stop)))
      (should (= 2 (length (rlm-test-requests "rlm/ask")))))))

(ert-deftest rlm-test-what-stops-the-connection-leaves-nothing-half-open ()
  (rlm-test-with
    (rlm-test-file "some.txt" "text\n")
    (dolist (stop (list (lambda () (signal 'quit nil))
                        (lambda () (signal 'file-missing '("No token")))))
      (let (told)
        (cl-letf (((symbol-function 'rlm-rpc--initialize-params) stop))
          (condition-case nil
              (rlm-rpc-ask 'rlm/status nil #'ignore (lambda (text) (setq told text)))
            (quit (should told)))
          (should told)
          (condition-case nil
              (rlm-ask-files "odd?" (list (rlm-test-file "some.txt")))
            ((quit error)))
          (should-not (rlm-rpc-live-p))
          (should-not (rlm-run-live-buffers))
          (should (equal 0 rlm-client--asking)))))))

(ert-deftest rlm-test-a-server-that-is-gone-at-once-is-not-waited-for ()
  (rlm-test-with-odd-server '()
    (cl-letf (((symbol-function 'rlm-rpc--initialize) #'rlm-rpc-stop))
      (let (told)
        (rlm-rpc-ask 'rlm/status nil #'ignore (lambda (text) (setq told text)) 'never)
        (should (string-match-p "ended as soon as it was started" told))))))

(ert-deftest rlm-test-each-run-is-told-that-the-connection-has-ended ()
  (rlm-test-with-odd-server '("deaf")
    (let ((one (rlm-test-ask-odd))
          (two (rlm-trajectory-create "Another"))
          (three (rlm-trajectory-create "Yet another")))
      (rlm-test-wait (lambda () (rlm-run-id (rlm-run-in-buffer one))))
      (rlm-client-register two "two" nil)
      (rlm-client-register three "three" nil)
      (dolist (buffer (list one two three))
        (rlm-trajectory-push buffer (car (rlm-test-numbered (rlm-test-recorded)))))
      ;; The buffer of one run is killed when another one ends.
      (let ((rlm-after-run-functions
             (list (lambda (_)
                     (dolist (buffer (list one two three))
                       (unless (eq buffer (current-buffer))
                         (kill-buffer buffer)))))))
        (rlm-stop-server))
      (should (= 1 (seq-count #'buffer-live-p (list one two three))))
      (should-not (rlm-run-live-buffers))
      (should-not rlm-heartbeat--timer)
      (should-not (rlm-rpc-live-p))
      (should (= 1 (length (rlm-test-requests "initialize")))))))

(ert-deftest rlm-test-a-run-that-is-gone-is-not-live ()
  (rlm-test-with
    (rlm-restore-open "20200101-000000-abcdef" "0.1")
    (rlm-test-wait (lambda () (not (rlm-run-live-buffers))))
    (should (string-match-p "There is no run"
                            (rlm-test-buffer-text (seq-find #'rlm-run-in-buffer (buffer-list)))))))

(ert-deftest rlm-test-keys-come-from-auth-source-for-what-is-wanted ()
  (rlm-test-with-odd-server '("keys")
    (let ((rlm-use-auth-source t)
          (auth-source-do-cache nil)
          (auth-sources (list (rlm-test-file "authinfo"
                                             "machine api.example.org login apikey password s3cret
machine other.example.org login apikey password other\n"))))
      (rlm-test-wait-end (rlm-test-ask-odd))
      (should (equal '((:keys (:big "s3cret"))) (rlm-test-requests "rlm/keys")))
      (should (equal '("initialize" "rlm/keys" "rlm/estimate" "rlm/ask")
                     (mapcar (lambda (line)
                               (plist-get (json-parse-string line :object-type 'plist) :method))
                             (split-string (rlm-test-text (rlm-test-file "requests")) "\n" t))))
      (dolist (buffer (buffer-list))
        (unless (equal (buffer-file-name buffer) (rlm-test-file "authinfo"))
          (should-not (string-match-p "s3cret" (with-current-buffer buffer (buffer-string)))))))))

(ert-deftest rlm-test-a-key-is-found-that-was-not-there-before-the-server-was-restarted ()
  (rlm-test-with-odd-server '("keys")
    (let* ((rlm-use-auth-source t)
           (auth-sources (list (rlm-test-file "authinfo" "machine other.example.org password o\n"))))
      (rlm-test-wait-end (rlm-test-ask-odd))
      (should-not (rlm-test-requests "rlm/keys"))
      (rlm-test-file "authinfo" "machine api.example.org login apikey password s3cret\n")
      (rlm-rpc-stop)
      (rlm-test-wait-end (rlm-test-ask-odd))
      (should (equal '((:keys (:big "s3cret"))) (rlm-test-requests "rlm/keys"))))))

(ert-deftest rlm-test-no-keys-without-leave ()
  (rlm-test-with-odd-server '("keys")
    (rlm-test-wait-end (rlm-test-ask-odd))
    (should-not (rlm-test-requests "rlm/keys"))))

(ert-deftest rlm-test-refusal-is-told-with-its-cure ()
  (rlm-test-with-odd-server '("refuses")
    (let* ((buffer (rlm-test-ask-odd))
           (run (rlm-test-wait-end buffer)))
      (should (equal "failed" (rlm-run-status run)))
      (should (string-match-p "No key\\. Set ODD_KEY\\." (rlm-test-buffer-text buffer)))
      (should (directory-empty-p temporary-file-directory)))))

(ert-deftest rlm-test-other-protocol-version-is-refused-with-the-cure ()
  (rlm-test-with-odd-server '("old")
    (let ((buffer (rlm-test-ask-odd)))
      (rlm-test-wait-end buffer)
      (should (string-match-p (format "speaks version 0 of the protocol, Emacs version %d"
                                      rlm-rpc-protocol-version)
                              (rlm-test-buffer-text buffer)))
      (should (string-match-p "rlm-install-server" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-test-missing-server-is-told-with-the-cure ()
  (rlm-test-with
    (setq rlm-server-command '("/is/not/there"))
    ;; It has not ended, however often it was tried.
    (dotimes (_ (1+ rlm-server--starts-allowed))
      (let ((buffer (rlm-test-ask-odd)))
        (rlm-test-wait-end buffer)
        (should (string-match-p "/is/not/there can't be executed: correct `rlm-server-command'"
                                (rlm-test-buffer-text buffer)))))
    (setq rlm-server-command nil)
    (cl-letf (((symbol-function 'rlm-server-find) #'ignore))
      (let ((buffer (rlm-test-ask-odd)))
        (rlm-test-wait-end buffer)
        (should (string-match-p "rlm-install-server" (rlm-test-buffer-text buffer)))))))

(ert-deftest rlm-test-death-while-asking-repeats-nothing ()
  (rlm-test-with-odd-server '("dies" "noise")
    (let* ((buffer (rlm-test-ask-odd))
           (run (rlm-test-wait-end buffer)))
      (should (equal "failed" (rlm-run-status run)))
      (should (string-match-p "server ended\\|Server died" (rlm-test-buffer-text buffer)))
      (should (= 1 (length (rlm-test-requests "rlm/ask"))))
      (rlm-test-wait (lambda ()
                       (with-current-buffer rlm-server-log-buffer
                         (string-match-p "a word of complaint" (buffer-string)))))
      (should-not (seq-find (lambda (buffer)
                              (string-match-p "rlm events" (buffer-name buffer)))
                            (buffer-list))))))

(ert-deftest rlm-test-a-server-that-keeps-dying-is-not-started-for-ever ()
  (rlm-test-with-odd-server '("dies")
    (dotimes (_ rlm-server--starts-allowed)
      (rlm-test-wait-end (rlm-test-ask-odd)))
    (let ((buffer (rlm-test-ask-odd)))
      (rlm-test-wait-end buffer)
      (should (string-match-p "ended 3 times within a minute" (rlm-test-buffer-text buffer))))
    (should (= rlm-server--starts-allowed (length (rlm-test-requests "initialize"))))
    (rlm-restart-server)
    (rlm-test-wait #'rlm-rpc-info)))

(ert-deftest rlm-test-log-of-the-server-is-bounded ()
  (rlm-test-with
    (dotimes (_ 100)
      (rlm-server-log (make-string 10000 ?x)))
    (with-current-buffer rlm-server-log-buffer
      (should (<= (buffer-size) rlm-server-log--size)))))

;; When it is killed, none of them comes up in its place.
(ert-deftest rlm-test-of-a-question-its-run-is-the-only-buffer-in-sight ()
  (rlm-test-with
    (with-temp-buffer
      (insert "The harbour is old.\n")
      (let* ((before (buffer-list))
             (buffer (rlm-ask-buffer "What is old?")))
        (rlm-test-wait-end buffer)
        (rlm-test-wait (lambda () (get-buffer rlm-server-log-buffer)))
        (should (equal (list (buffer-name buffer))
                       (seq-remove (lambda (name) (string-prefix-p " " name))
                                   (mapcar #'buffer-name
                                           (seq-difference (buffer-list) before)))))
        (switch-to-buffer buffer)
        (rlm-test-keys "M-x rlm-server-show-log RET")
        (should (get-buffer-window rlm-server-log-buffer))))))

(ert-deftest rlm-test-a-window-at-the-end-of-the-log-stays-there ()
  (rlm-test-with
    (rlm-server-log "one\n")
    (let ((window (display-buffer rlm-server-log-buffer)))
      (should-not (eq window (selected-window)))
      (rlm-server-log "two\n")
      (with-current-buffer rlm-server-log-buffer
        (should (= (window-point window) (point-max)))
        (set-window-point window (point-min))
        (rlm-server-log "three\n")
        (should (= (window-point window) (point-min)))))))

(ert-deftest rlm-test-silence-is-noticed-and-told ()
  (rlm-test-with-odd-server '("deaf")
    (let* ((rlm-heartbeat 0.05)
           (buffer (rlm-test-ask-odd)))
      (rlm-test-wait (lambda ()
                       (with-current-buffer buffer
                         (string-match-p "no answer from the server" (rlm-header)))))
      (rlm-heartbeat-note)
      (with-current-buffer buffer
        (should (string-match-p "answers again" (rlm-header))))
      (rlm-stop-server)
      (should (equal "interrupted" (rlm-run-status (rlm-run-in-buffer buffer))))
      (should-not rlm-heartbeat--timer))))

(ert-deftest rlm-test-without-a-heartbeat-nothing-is-looked-at ()
  (dolist (rlm-heartbeat '(nil 0))
    (rlm-test-with-odd-server '("deaf")
      (let ((buffer (rlm-test-ask-odd)))
        (rlm-test-wait (lambda () (rlm-run-id (rlm-run-in-buffer buffer))))
        (should-not rlm-heartbeat--timer)
        (should-not (rlm-test-requests "rlm/status"))))))

(ert-deftest rlm-test-time-out-ends-a-request-once ()
  (rlm-test-with-odd-server '("deaf")
    (let (problems)
      (rlm-rpc-request 'rlm/status nil :timeout 0.1
                       :success (lambda (_) (push 'success problems))
                       :error (lambda (problem) (push problem problems)))
      (rlm-test-wait (lambda () problems))
      (rlm-rpc-stop)
      (accept-process-output nil 0.05)
      (should (= 1 (length problems)))
      (should (equal "timeout" (plist-get (plist-get (car problems) :data) :kind))))))

(ert-deftest rlm-test-error-in-a-handler-holds-nothing-back ()
  (rlm-test-with-odd-server '()
    (let ((broken 0))
      (add-hook 'rlm-after-run-functions (lambda (_) (error "Hook")))
      (cl-letf* ((take (symbol-function 'rlm-client--take))
                 ((symbol-function 'rlm-client--take)
                  (lambda (buffer event)
                    (funcall take buffer event)
                    (cl-incf broken)
                    (error "Handler"))))
        (let ((run (rlm-test-wait-end (rlm-test-ask-odd))))
          (should (equal "odd answer" (rlm-run-answer run)))
          (should (= 3 broken)))))))

(ert-deftest rlm-test-question-dropped-while-it-waits ()
  (rlm-test-with-odd-server '("paid")
    (let* ((buffer (cl-letf (((symbol-function 'rlm-question--when-calm) #'ignore))
                     (prog1 (rlm-test-ask-odd)
                       (rlm-test-wait (lambda () (rlm-test-requests "rlm/estimate")))
                       (rlm-test-wait #'rlm-rpc-info)))))
      (rlm-cancel (rlm-run-in-buffer buffer))
      (should-not (buffer-live-p buffer))
      (should (directory-empty-p temporary-file-directory))
      (should-not (rlm-test-requests "rlm/ask")))))

(defmacro rlm-test-setting-limits (answers &rest body)
  "Run BODY in the buffer of a live run, with ANSWERS to what is asked.
The value is the list of what was sent; a symbol among ANSWERS is signalled."
  (declare (indent 1))
  `(rlm-test-with-run buffer
     (rlm-trajectory-push buffer (car events))
     (rlm-trajectory-flush buffer)
     (let ((answers ,answers) sent)
       (cl-letf (((symbol-function 'completing-read)
                  (lambda (_prompt table &rest _)
                    (all-completions "" table)
                    (rlm-test-answer (pop answers))))
                 ((symbol-function 'read-number)
                  (lambda (&rest _) (rlm-test-answer (pop answers))))
                 ((symbol-function 'rlm-rpc-request)
                  (lambda (method params &rest _) (push (cons method params) sent))))
         (with-current-buffer buffer
           ,@body))
       sent)))

(defun rlm-test-answer (answer)
  "Return ANSWER, or signal it."
  (if (and answer (symbolp answer)) (signal answer nil) answer))

(ert-deftest rlm-test-typed-answer-is-drawn-as-json-and-can-be-had-as-lisp ()
  (rlm-test-with-run buffer
    (let ((run (rlm-run-in-buffer buffer)))
      (rlm-trajectory-push buffer (car events))
      (seq-do-indexed
       (pcase-lambda (`(,text . ,more) number)
         (rlm-trajectory-push
          buffer (list :kind "answer" :runId "r" :seq (1+ number) :time 0 :node "0" :text text
                       :partial :json-false :evidence [] :more more :typed t)))
       '(("{\n  \"words\": [\n    \"* a" . t)
         ("\"\n  ],\n  \"none\": null,\n  \"no\": false\n}" . :json-false)))
      (rlm-trajectory-flush buffer)
      (should (string-match-p "^#\\+begin_src json\n{\n  \"words\": \\[\n    \"\\* a\"\n  ],\n"
                              (rlm-test-buffer-text buffer)))
      (should (equal '(:words ["* a"] :none nil :no :json-false) (rlm-run-value run)))
      (setf (rlm-run-typed run) nil)
      (should-not (rlm-run-value run)))))

(ert-deftest rlm-test-set-limits-sends-one-limit-in-the-words-of-the-protocol ()
  (let ((sent (rlm-test-setting-limits (list "Iterations (20)" 40.0)
                (call-interactively (key-binding "L")))))
    (should (equal '((rlm/limits :runId "20260301-120000-c0ffee" :limits (:iterations 40))) sent)))
  (let ((sent (rlm-test-setting-limits (list "Cost (no limit)" 0.5)
                (call-interactively #'rlm-set-limits))))
    (should (equal '(:cost 0.5) (plist-get (cdar sent) :limits)))))

(ert-deftest rlm-test-set-limits-given-up-or-wrong-sends-nothing ()
  (dolist (answers '((quit) ("Tokens (no limit)" quit)))
    (should-not (rlm-test-setting-limits answers
                  (condition-case nil (call-interactively #'rlm-set-limits) (quit nil)))))
  (dolist (answers '(("Tokens (no limit)" 0) ("Seconds in all (1,800)" 0) ("Cost (no limit)" -1)
                     ("")))
    (should-not (rlm-test-setting-limits answers
                  (should-error (call-interactively #'rlm-set-limits) :type 'user-error))))
  (should-not (rlm-test-setting-limits nil
                (setf (rlm-run-status rlm-run-current) "done")
                (should-error (call-interactively #'rlm-set-limits) :type 'user-error))))

(ert-deftest rlm-test-address-must-be-on-this-machine ()
  (rlm-test-with
    (setq rlm-server-address "example.org:4000")
    (should-error (rlm-rpc-request 'rlm/status nil) :type 'rlm-rpc-error)
    (setq rlm-server-address nil)))

(ert-deftest rlm-test-end-of-emacs-is-asked-about-and-saves ()
  (rlm-test-with-run buffer
    (dolist (event (seq-take events 16)) (rlm-trajectory-push buffer event))
    (rlm-trajectory-flush buffer)
    (cl-letf (((symbol-function 'yes-or-no-p) #'ignore))
      (should-not (rlm-client--exit-p)))
    (rlm-client--on-exit)
    (should (rlm-client--exit-p))
    (should (string-match-p "Emacs was ended"
                            (rlm-test-text (rlm-run-transcript (rlm-run-in-buffer buffer)))))))

(ert-deftest rlm-test-a-server-of-ones-own-ends-with-emacs-whatever-address-is-set ()
  (rlm-test-with-odd-server '("deaf")
    (let ((buffer (rlm-test-ask-odd)) asked)
      (rlm-test-wait (lambda () (rlm-run-id (rlm-run-in-buffer buffer))))
      (setq rlm-server-address "127.0.0.1:1") ; for the next one
      (cl-letf (((symbol-function 'yes-or-no-p) (lambda (&rest _) (setq asked t) nil)))
        (should-not (rlm-client--exit-p)))
      (should asked)
      (rlm-stop-server)
      (should-not (string-match-p "may go on with it" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-test-raw-bytes-are-not-sent ()
  (cl-letf (((symbol-function 'read-string) (lambda (&rest _) "a\x3fffc8 b")))
    (should (equal "a\ufffd b" (rlm-read-question "x"))))
  (rlm-test-with
    (let* ((file-name-coding-system 'raw-text)
           (file (rlm-test-file "odd\x3fffc8.txt" "x")))
      (should-error (rlm-context-of-files (list file) "x") :type 'user-error))))

;;;; Finding and installing the server

(ert-deftest rlm-test-server-is-looked-for-in-order ()
  (rlm-test-with
    (should (equal "option rlm-server-command" (nth 1 (rlm-server-find))))
    (setq rlm-server-command nil)
    (let ((exec-path (list (rlm-test-file "bin/"))))
      (cl-letf (((symbol-function 'rlm-server-checkout) #'ignore))
        (should-not (rlm-server-find))
        (set-file-modes (rlm-test-file "bin/rlm-server" "#!/bin/sh\n") #o755)
        (should (equal "on the PATH" (nth 1 (rlm-server-find)))))
      (cl-letf (((symbol-function 'rlm-server-checkout) (lambda () (rlm-test-file "checkout/"))))
        (set-file-modes (rlm-test-file "checkout/.venv/bin/python" "#!/bin/sh\n") #o755)
        (should (equal (list (list (rlm-test-file "checkout/.venv/bin/python") "-m" "rlm_server")
                             "beside the checkout" (rlm-test-file "checkout/"))
                       (rlm-server-find)))
        (set-file-modes (rlm-test-file "server/bin/python" "#!/bin/sh\n") #o755)
        (should (equal "installed by rlm-install-server" (nth 1 (rlm-server-find))))))))

(ert-deftest rlm-test-install-shows-each-command ()
  (rlm-test-with
    (let ((rlm-server-python (rlm-test-file "python" "#!/bin/sh
echo \"ran $*\" >> \"$HOME/ran\"
if test \"$2\" = venv; then mkdir -p \"$4/bin\"; cp \"$0\" \"$4/bin/python\"; fi\n"))
          done)
      (set-file-modes rlm-server-python #o755)
      (add-hook 'rlm-server-installed-hook (lambda () (setq done t)))
      (unwind-protect
          (progn
            (rlm-test-keys "M-x rlm-install-server RET") ; from the checkout of this test
            (rlm-test-wait (lambda () done)))
        (setq rlm-server-installed-hook nil))
      (should (= 5 (length (split-string (rlm-test-text (rlm-test-file "ran")) "\n" t))))
      (with-current-buffer rlm-install--buffer
        (dolist (part '("-m venv" "install --require-hashes --only-binary :all: -r"
                        "install --no-deps --no-index --no-build-isolation"
                        "rlm_server --version" "Done"))
          (should (string-match-p (regexp-quote part) (buffer-string))))))))

(ert-deftest rlm-test-failed-install-tells-the-cure ()
  (rlm-test-with
    (let ((rlm-server-python (rlm-test-file "python" "#!/bin/sh\ntest \"$2\" != venv\n")))
      (set-file-modes rlm-server-python #o755)
      (rlm-test-file "checkout/rlm_server/requirements.lock" "")
      (rlm-install-server (rlm-test-file "checkout/"))
      (rlm-test-wait-text rlm-install--buffer "apt-get install python3-venv"))))

;;;; Doctor and status

(ert-deftest rlm-test-doctor-without-a-server-gives-the-cure ()
  (rlm-test-with
    (setq rlm-server-command '("/is/not/there"))
    (rlm-doctor)
    (rlm-test-wait-text rlm-doctor--buffer "failure")
    (rlm-test-wait-text rlm-doctor--buffer "-> M-x rlm-install-server")))

(ert-deftest rlm-test-status-tells-of-the-server ()
  (rlm-test-with-odd-server '()
    (rlm-status)
    (rlm-test-wait (lambda () (get-buffer rlm-doctor--status-buffer)))
    (rlm-test-wait-text rlm-doctor--status-buffer "^Server 0, process [0-9]+")))

;;;; The package

(defun rlm-test-lisp (form)
  "Return what FORM prints in a new Emacs."
  (with-temp-buffer
    (call-process (expand-file-name invocation-name invocation-directory) nil '(t nil) nil
                  "-Q" "--batch" "-L" (expand-file-name "elisp" rlm-test-root)
                  "--eval" (format "(princ %S)" form))
    (buffer-string)))

;; It stands where an Emacs has ended before it could ask.
(ert-deftest rlm-test-a-link-to-what-was-never-asked-says-so ()
  (rlm-test-with
    (should (equal "That question was never asked"
                   (rlm-test-lisp '(progn (require 'ob-rlm)
                                          (condition-case problem
                                              (org-link-open-from-string
                                               "[[rlm:asking-0123456789abcdef]]")
                                            (user-error (cadr problem)))))))))

(ert-deftest rlm-test-loading-is-light ()
  (should (equal "nil" (rlm-test-lisp
                        '(progn (require 'rlm)
                                (seq-filter #'featurep '(org jsonrpc dired project auth-source
                                                             rlm-client rlm-trajectory))))))
  ;; Who has its language known to Org may never ask in it.
  (should (equal "(t nil)" (rlm-test-lisp
                            '(progn (require 'ob-rlm)
                                    (list (not (null (org-link-get-parameter "rlm" :follow)))
                                          (seq-filter #'featurep '(jsonrpc rlm-client
                                                                   rlm-trajectory)))))))
  ;; What the manual says to do when no server starts is there at once.
  (should (equal "t" (rlm-test-lisp '(progn (require 'rlm)
                                            (seq-every-p #'commandp
                                                         '(rlm-install-server rlm-restart-server
                                                           rlm-doctor rlm-server-show-log)))))))

(ert-deftest rlm-test-what-leads-back-to-a-run-is-known-from-the-start ()
  "A bookmark or desktop names what it needs; nothing of rlm is loaded but rlm.el."
  (should (equal "(t t)"
                 (rlm-test-lisp
                  '(progn
                     (require 'rlm)
                     (require 'desktop)
                     (list (fboundp 'rlm-restore-jump)
                           (progn (desktop-load-file 'rlm-trajectory-mode)
                                  (fboundp (cdr (assq 'rlm-trajectory-mode
                                                      desktop-buffer-mode-handlers))))))))))

(ert-deftest rlm-test-a-directory-may-set-its-globs-from-the-start ()
  (should (equal "(t t nil nil)"
                 (rlm-test-lisp
                  '(progn
                     (require 'rlm)
                     (list (safe-local-variable-p 'rlm-include '("*.el"))
                           (safe-local-variable-p 'rlm-exclude '("vendor/"))
                           (safe-local-variable-p 'rlm-exclude '(evil))
                           (featurep 'rlm-context-files)))))))

(ert-deftest rlm-test-autoloads-load-nothing ()
  (rlm-test-with
    (let ((package (rlm-test-file "package/")))
      (copy-directory (expand-file-name "elisp" rlm-test-root) package nil nil t)
      (should (equal "(t t nil nil)"
                     (rlm-test-lisp
                      `(progn
                         (require 'package)
                         (package-generate-autoloads "rlm" ,package)
                         (let ((before (cons 'rlm-autoloads features)))
                           (load ,(concat package "rlm-autoloads") nil t)
                           (list (commandp 'rlm-ask)
                                 (safe-local-variable-p 'rlm-include '("*.el"))
                                 (safe-local-variable-p 'rlm-exclude '(evil))
                                 (seq-difference features before))))))))))

(defun rlm-test-customizable ()
  "Return the options of the package."
  (rlm-test-load-all)
  (let (options)
    (mapatoms (lambda (symbol)
                (when (and (string-prefix-p "rlm-" (symbol-name symbol))
                           (custom-variable-p symbol))
                  (push symbol options))))
    options))

(defmacro rlm-test-customizing (option &rest body)
  "Evaluate BODY in a buffer of Customize, with its widget for OPTION as `widget'."
  (declare (indent 1) (debug t))
  `(save-window-excursion
     (let ((inhibit-message t))
       (customize-option ,option)
       (unwind-protect
           (let ((widget (car custom-options)))
             ,@body)
         (kill-buffer)))))

(ert-deftest rlm-test-every-option-can-be-customized ()
  (should (> (length (rlm-test-customizable)) 30))
  (dolist (option (rlm-test-customizable))
    (should (widget-apply (widget-convert (custom-variable-type option))
                          :match (symbol-value option)))
    (rlm-test-customizing option
      (widget-apply widget :custom-set)))) ; to what it is

(ert-deftest rlm-test-options-refuse-what-makes-no-sense ()
  (rlm-test-load-all)
  (pcase-dolist (`(,option . ,value)
                 '((rlm-limits . ((cost . -1))) (rlm-limits . ((hours . 1))) (rlm-max-depth . 11)
                   (rlm-url-timeout . -1) (rlm-babel-timeout . "900") (rlm-flush-seconds . -0.1)
                   (rlm-notify-seconds . -1) (rlm-confirm . never) (rlm-direct . no)
                   (rlm-exclude . "vendor/") (rlm-server-command . "rlm-server")
                   (rlm-runs-limit . 1.5)))
    (should-not (widget-apply (widget-convert (custom-variable-type option)) :match value)))
  ;; As a person comes upon it.
  (rlm-test-customizing 'rlm-url-timeout
    (goto-char (widget-field-start (car (widget-get widget :children))))
    (execute-kbd-macro (kbd "C-k - 5"))
    (should (string-match-p "not negative"
                            (cadr (should-error (widget-apply widget :custom-set)))))
    (should (= 60 rlm-url-timeout))))

(ert-deftest rlm-test-manual-has-every-command-and-option ()
  (should-not (rlm-test-missing-from-manual
               (mapcar #'symbol-name
                       (append (rlm-test-customizable)
                               (seq-filter #'symbolp (rlm-test-all-keys)))))))

(defun rlm-test-missing-from-manual (names)
  "Return those of NAMES that the manual does not have."
  (let ((manual (rlm-test-text (expand-file-name "elisp/rlm.org" rlm-test-root))))
    (seq-remove (lambda (name) (string-search (concat "~" name "~") manual)) names)))

(ert-deftest rlm-test-manual-has-every-method-and-event ()
  (should-not (rlm-test-missing-from-manual
               (append (rlm-test-python-words "from rlm_server.protocol import *
for kind in AnyEvent.__args__: print(kind.__struct_config__.tag)")
                       '("initialize" "rlm/keys" "rlm/estimate" "rlm/ask" "rlm/followUp" "rlm/approve" "rlm/pause"
                         "rlm/note" "rlm/variables" "rlm/inspect" "rlm/exec" "rlm/cancel" "rlm/limits" "rlm/attach"
                         "rlm/runs" "rlm/status" "rlm/costs" "rlm/doctor" "rlm/events" "shutdown" "exit")))))

(ert-deftest rlm-test-manual-has-every-setting ()
  (let ((settings (rlm-test-python-words "
import msgspec
from rlm_server import config
for table in config.Section.__subclasses__():
    print(*(field.encode_name for field in msgspec.structs.fields(table)))")))
    (should (> (length settings) 20))
    (should-not (rlm-test-missing-from-manual settings))))

(ert-deftest rlm-test-manual-has-every-dependency ()
  (let ((manual (rlm-test-text (expand-file-name "elisp/rlm.org" rlm-test-root)))
        missing)
    (with-temp-buffer
      (insert-file-contents (expand-file-name "pyproject.toml" rlm-test-root))
      (re-search-forward "^dependencies = \\[")
      (let ((end (save-excursion (re-search-forward "^]"))))
        (while (re-search-forward "^ *\"\\([a-z0-9-]+\\)" end t)
          (unless (string-search (match-string 1) manual)
            (push (match-string 1) missing)))))
    (should-not missing)))

(ert-deftest rlm-test-manual-has-every-key ()
  (rlm-test-load-all)
  (let ((manual (replace-regexp-in-string
                 "\n +" " " (rlm-test-text (expand-file-name "elisp/rlm.org" rlm-test-root))))
        missing)
    (pcase-dolist (`(,command . ,keys) (seq-filter #'consp (rlm-test-all-keys)))
      (let ((keys (string-remove-prefix "C-c r " keys)))
        (unless (string-match-p (format "~%s~.*~%s~" (regexp-quote keys) command) manual)
          (push (cons keys command) missing))))
    (should-not missing)))

(ert-deftest rlm-test-versions-agree ()
  (should (equal rlm-rpc-client-version
                 (with-temp-buffer
                   (insert-file-contents (expand-file-name "elisp/rlm.el" rlm-test-root))
                   (re-search-forward "^;; Version: \\(.*\\)$")
                   (match-string 1))))
  (should (equal (list (number-to-string rlm-rpc-protocol-version))
                 (rlm-test-python-words
                  "from rlm_server.protocol import *; print(PROTOCOL_VERSION)"))))

(provide 'rlm-test)
;;; rlm-test.el ends here
