;;; rlm-babel-test.el --- Tests of source blocks that ask  -*- lexical-binding: t; -*-

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

;; Blocks of the language rlm are executed as a person does it, by C-c C-c
;; or by an export, and their buffers looked at.

;;; Code:

(require 'rlm-test-lib)
(require 'ob-rlm)
(require 'rlm-babel)
(require 'org)
(require 'ox-ascii)

(defmacro rlm-test-babel (text &rest body)
  "Evaluate BODY in an Org file with TEXT, at its start.
Blocks are answered in the background, as they are outside of batch."
  (declare (indent 1) (debug t))
  `(let ((org-confirm-babel-evaluate nil)
         (org-export-use-babel t)
         (case-fold-search nil)
         (rlm-babel--jobs nil))
     (rlm-test-file "harbour.txt" "The harbour is old.\nThe keeper is called Odalys.\n")
     (with-current-buffer (find-file-noselect (rlm-test-file "notes.org" ,text))
       (goto-char (point-min))
       ,@body)))

(defun rlm-test-execute ()
  "Execute what is at point as if this were no batch."
  (let (noninteractive)
    (org-ctrl-c-ctrl-c)))

(defun rlm-test-execute-and-wait ()
  "Execute what is at point, and wait for the result."
  (rlm-test-execute)
  (rlm-test-wait (lambda () (null rlm-babel--jobs)) "result of a block"))

(defun rlm-test-drawer ()
  "Return the text of the first drawer of results."
  (save-excursion
    (goto-char (point-min))
    (re-search-forward "^:\\(?:results\\|RESULTS\\):\n\\(\\(?:.*\n\\)*?\\):\\(?:end\\|END\\):")
    (match-string-no-properties 1)))

(defconst rlm-test-block "#+begin_src rlm :context harbour.txt
What is the keeper called?
#+end_src
"
  "A block that the built-in model can answer.")

;;;; In the background

(ert-deftest rlm-babel-placeholder-then-answer-with-links ()
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (rlm-test-execute)
      (should (string-match-p "\\`\\[\\[rlm:asking-[0-9a-f]+\\]\\[being answered\\]\\]\n\\'"
                              (rlm-test-drawer)))
      (should-not (get-buffer-window (rlm-babel--job-run-buffer (car rlm-babel--jobs))))
      (rlm-test-wait (lambda () (null rlm-babel--jobs)))
      (let ((drawer (rlm-test-drawer)))
        (should (string-match-p "Odalys" drawer))
        (should (string-match-p "^- \\[\\[file:.*harbour\\.txt::2\\]\\[harbour\\.txt:2\\]\\] The keeper"
                                drawer))
        (should (string-match "^\\[\\[rlm:\\([-0-9a-f]+\\)\\]\\[offline/extractive, no cost, " drawer))
        (should-not (string-match-p "being answered" (buffer-string)))
        ;; The link leads to the run.
        (let ((id (match-string 1 drawer)))
          (save-window-excursion
            (goto-char (point-min))
            (search-forward "[[rlm:")
            (org-open-at-point)
            (should (equal id (rlm-run-id (rlm-run-in-buffer)))))))
      ;; Once more: the old result is replaced.
      (goto-char (point-min))
      (rlm-test-execute-and-wait)
      (should (= 1 (how-many "^:end:\\|^:END:" (point-min))))
      (should (directory-empty-p temporary-file-directory)))))

(ert-deftest rlm-babel-markdown-of-an-answer-becomes-org ()
  (rlm-test-with-models
      (vector (list :role "root"
                    :reply "I look.

~~~repl
context
FINAL('''## What
The **keeper** has `x`:
```python
x = 1
* 2
```
''')
~~~
"))
    (rlm-test-babel (string-replace "harbour.txt\n" "harbour.txt :results drawer\n" rlm-test-block)
      (rlm-test-execute-and-wait)
      (let ((drawer (rlm-test-drawer)))
        (should (string-prefix-p "*What*" drawer))
        (should (string-search "The *keeper* has ~x~:" drawer))
        (should (string-search "#+begin_src python\nx = 1\n,* 2\n#+end_src\n" drawer))))))

(ert-deftest rlm-babel-the-result-finds-its-place ()
  (rlm-test-with
    (rlm-test-babel (concat "* One\n" rlm-test-block "* Two\n")
      (search-forward "What")
      (rlm-test-execute)
      ;; Edits above it, and the block cut and put elsewhere.
      (goto-char (point-min))
      (insert "Some text before.\n")
      (search-forward "* One")
      (beginning-of-line)
      (let* ((end (save-excursion (search-forward "* Two") (line-beginning-position)))
             (text (delete-and-extract-region (point) end)))
        (goto-char (point-max))
        (insert text))
      (rlm-test-wait (lambda () (null rlm-babel--jobs)))
      (should (string-match-p "\\* Two\n\\* One\n#\\+begin_src" (buffer-string)))
      (should (string-match-p "Odalys" (rlm-test-drawer)))
      (should (= 1 (how-many "#\\+RESULTS:" (point-min)))))))

(ert-deftest rlm-babel-the-result-is-undone-by-itself ()
  (rlm-test-with
    (rlm-test-babel (concat rlm-test-block "\n")
      (switch-to-buffer (current-buffer))
      (search-forward "What")
      (rlm-test-execute)
      (goto-char (point-max))
      (undo-boundary)
      (insert "Written meanwhile.\n")
      (rlm-test-wait (lambda () (null rlm-babel--jobs)))
      (should (string-match-p "Odalys" (rlm-test-drawer)))
      (rlm-test-keys "C-/")
      (should-not (string-match-p "Odalys" (buffer-string)))
      (should (string-match-p "Written meanwhile" (buffer-string)))
      (should (string-match-p "being answered" (rlm-test-drawer))))))

(ert-deftest rlm-babel-a-question-is-edited-as-prose ()
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (search-forward "What")
      (let ((org-src-window-setup 'current-window))
        (rlm-test-keys "C-c '")
        (should (eq 'text-mode major-mode))
        (should (equal "What is the keeper called?\n" (buffer-string)))
        (rlm-test-keys "C-c '")))))

(ert-deftest rlm-babel-names-with-blanks-in-quotes ()
  (rlm-test-with
    (rlm-test-babel ""
      (rlm-test-file "b c.txt" "text\n")
      (should (equal '("harbour.txt" "b c.txt" "notes.org")
                     (mapcar (lambda (item) (file-name-nondirectory (rlm-item-file item)))
                             (rlm-babel--items "harbour.txt \"b c.txt\" notes.org"))))
      (should (string-match-p "quote in :context is not closed: a \"b"
                              (cadr (should-error (rlm-babel--items "a \"b") :type 'user-error)))))))

(ert-deftest rlm-babel-names-in-quotes-alone ()
  "Org before 9.6 hands on the first of them."
  (rlm-test-with
    (rlm-test-file "old town.txt" "The town is old.\n")
    (rlm-test-file "b c.txt" "text\n")
    (rlm-test-babel "#+begin_src rlm :context \"old town.txt\" \"b c.txt\" :fresh yes\nWhat?\n#+end_src\n"
      (rlm-test-execute)
      (let ((buffer (rlm-babel--job-run-buffer (car rlm-babel--jobs))))
        (rlm-test-wait-end buffer)
        (should (string-match-p "^Context: 2 documents" (rlm-test-buffer-text buffer)))))))

(ert-deftest rlm-babel-two-blocks-and-a-narrowed-buffer ()
  (rlm-test-with
    (rlm-test-file "boats.txt" "Boats leave at dawn.\n")
    (rlm-test-babel (concat rlm-test-block "\n* Other\n#+begin_src rlm :context boats.txt
When do boats leave?
#+end_src\n")
      (rlm-test-execute)
      (search-forward "When do")
      (rlm-test-execute)
      (should (= 2 (length rlm-babel--jobs)))
      (goto-char (point-max))
      (narrow-to-region (point) (point))
      (rlm-test-wait (lambda () (null rlm-babel--jobs)))
      (should (buffer-narrowed-p))
      (widen)
      (should (string-match-p "Odalys\\(?:.\\|\n\\)*\\* Other\\(?:.\\|\n\\)*dawn" (buffer-string))))))

(ert-deftest rlm-babel-a-deleted-block-loses-nothing ()
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (let ((said (rlm-test-messages
                    (rlm-test-execute)
                    (let ((run-buffer (rlm-babel--job-run-buffer (car rlm-babel--jobs))))
                      (erase-buffer)
                      (rlm-test-wait-end run-buffer)
                      (should (string-match-p "Odalys" (rlm-test-buffer-text run-buffer)))))))
        (should (seq-find (lambda (text) (string-match-p "placeholder of the result is gone; \
the answer is in \\*rlm: What is" text))
                          said))
        (should-not rlm-babel--jobs)
        (should (string-empty-p (buffer-string))))
      ;; The whole buffer may go, too.
      (insert rlm-test-block)
      (goto-char (point-min))
      (rlm-test-execute)
      (let ((run-buffer (rlm-babel--job-run-buffer (car rlm-babel--jobs))))
        (set-buffer-modified-p nil)
        (kill-buffer)
        (rlm-test-wait-end run-buffer))
      (should-not rlm-babel--jobs))))

(ert-deftest rlm-babel-nothing-is-done-with-a-result-whose-buffer-is-gone ()
  (rlm-test-with
    (rlm-test-babel (concat "#+begin_src rlm :context harbour.txt :post count(data=*this*)\n"
                            "What is the keeper called?\n#+end_src\n")
      (let ((said (rlm-test-messages
                    (rlm-test-execute)
                    (let ((run-buffer (rlm-babel--job-run-buffer (car rlm-babel--jobs))))
                      (set-buffer-modified-p nil)
                      (kill-buffer)
                      (rlm-test-wait-end run-buffer)))))
        (should (seq-find (lambda (text) (string-match-p "placeholder of the result is gone" text))
                          said))))))

(ert-deftest rlm-babel-what-can-not-be-asked-is-said-there ()
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (setq rlm-server-command '("/is/not/there"))
      (rlm-test-execute-and-wait)
      (should (string-match-p "\\`No answer: /is/not/there can't be executed" (rlm-test-drawer)))
      (setq rlm-server-command (list rlm-test-python "-m" "rlm_server"))
      (rlm-server-forgive)
      (setq rlm-confirm t)
      (cl-letf (((symbol-function 'y-or-n-p) #'ignore)
                ((symbol-function 'current-idle-time) (lambda () '(0 1 0 0))))
        (goto-char (point-min))
        (rlm-test-execute-and-wait))
      (should (string-match-p "\\`No answer: Not asked\\." (rlm-test-drawer))))))

(ert-deftest rlm-babel-wrong-header-arguments-are-said-at-once ()
  (rlm-test-with
    (dolist (case '(("" "What is the question about")
                    (":context nowhere.txt" "There is no nowhere.txt")
                    (":context harbour.txt :budget much" "has to be a number, not much")
                    (":context harbour.txt :preset none" "There is no preset none")
                    (":context collection" "Nothing is collected")))
      (rlm-test-babel (format "#+begin_src rlm %s\nWhat?\n#+end_src\n" (car case))
        (should (string-match-p (cadr case)
                                (cadr (should-error (rlm-test-execute) :type 'user-error))))
        (should-not (string-match-p "RESULTS" (buffer-string)))
        (set-buffer-modified-p nil)
        (kill-buffer)))
    (should (directory-empty-p temporary-file-directory))
    (should-not (seq-filter #'rlm-run-in-buffer (buffer-list)))))

;;;; What is asked

(ert-deftest rlm-babel-header-arguments-are-sent ()
  (rlm-test-with-odd-server '()
    (rlm-test-file "b c.txt" "x\n")
    (rlm-test-babel "#+name: prices
| boat | 3 |
|------+---|
| ship | 5 |

* Heading
#+begin_src rlm :context '(\"harbour.txt\" \"b c.txt\" \"subtree\") :model big :sub-model small \
:depth 2 :budget $0.50 :iterations 4 :fresh yes :var prices=prices who=\"Odalys\"
Which?
#+end_src\n"
      (search-forward "Which")
      (rlm-test-execute)
      (rlm-test-wait (lambda () (rlm-test-requests "rlm/ask")))
      (let ((asked (car (rlm-test-requests "rlm/ask"))))
        (should (equal "Which?" (plist-get asked :question)))
        (should (equal '(:rootModel "big" :subModel "small" :maxDepth 2 :fresh t
                                    :limits (:cost 0.5 :iterations 4))
                       (plist-get asked :options)))
        (should (equal '("harbour.txt" "b c.txt" "notes.org" "prices" "who")
                       (mapcar (lambda (source)
                                 (or (plist-get source :name)
                                     (file-name-nondirectory (plist-get source :path))))
                               (plist-get asked :sources)))))
      ;; Its price is in the block: nobody is asked, and nothing is estimated.
      (should-not (rlm-test-requests "rlm/estimate")))))

(ert-deftest rlm-babel-variables-as-text ()
  (should (equal "boat\t3\nship\t5" (rlm-babel--text '(("boat" 3) hline ("ship" 5)))))
  (should (equal "one\n2" (rlm-babel--text '("one" 2))))
  (should (equal "Odalys" (rlm-babel--text "Odalys")))
  (should (equal "5" (rlm-babel--text 5))))

(ert-deftest rlm-babel-a-variable-is-a-document ()
  (rlm-test-with
    (rlm-test-babel "#+name: keepers
| keeper of the harbour | Odalys |
| keeper of the bridge  | Imre   |

#+begin_src rlm :var keepers=keepers
Who is keeper of the bridge?
#+end_src\n"
      (search-forward "Who")
      (rlm-test-execute-and-wait)
      (should (string-match-p "^- keepers:2 keeper of the bridge +Imre" (rlm-test-drawer))))))

;;;; Results

(defun rlm-test-final (value)
  "Return rules for a model that answers VALUE, a piece of Python."
  (vector (list :reply (format "Now.\n\n```repl\nFINAL(%s)\n```" value))))

(defconst rlm-babel-test-values
  '(("table" "[['boat', 3], ['ship', 5.5]]" "^| boat | +3 |\n| ship | 5\\.5 |$")
    ("list" "['boats', 'a ship']" "^- boats\n- a ship$")
    ("verbatim" "'a *b*'" "^: a \\*b\\*$")
    ("table" "[['a|b', '[[elisp:(boom)][see]]'], ['x\\n* Head', 2]]"
     "^| a\\\\vert{}b +| \\[\\[elisp\u2060?.?:(boom)\\]\\[see\\]\\] |\n| x \\* Head +| +2 |$")
    ("list" "['x\\n* Head\\n#+begin_src sh', 'b']" "^- x \\* Head #\\+begin_src sh\n- b$")
    ("html" "'<b>x</b>'" "^#\\+begin_export html\n<b>x</b>\n#\\+end_export$")
    ("raw" "'Some *prose*.'" "^Some [*/]prose[*/]\\.$"))
  "Lists of a kind of results, a piece of Python, and what comes of its value.")

(ert-deftest rlm-babel-tables-lists-and-text ()
  (rlm-test-with-models
      (vconcat (seq-map-indexed
                (lambda (case number)
                  (append (list :match (format "Case %d\\?" number))
                          (aref (rlm-test-final (nth 1 case)) 0)))
                rlm-babel-test-values))
    (seq-do-indexed
     (lambda (case number)
       (rlm-test-babel (format "#+begin_src rlm :context harbour.txt :results replace %s
Case %d?
#+end_src\n\nAfter it.\n" (car case) number)
         (rlm-test-execute-and-wait)
         (should (string-match-p (nth 2 case) (buffer-string)))
         (should-not (string-match-p "asking-\\|being answered" (buffer-string)))
         (should (string-match-p "^After it\\.$" (buffer-string)))
         (set-buffer-modified-p nil)
         (kill-buffer)))
     rlm-babel-test-values)))

;; What has no room for text beside its value has the link as an attribute.
(ert-deftest rlm-babel-every-result-leads-to-its-run ()
  (rlm-test-with-models (rlm-test-final "[['boat', 3], ['ship', 5]]")
    (rlm-test-babel "- An item
  #+name: boats
  #+begin_src rlm :context harbour.txt :results table
  Which?
  #+end_src\n
#+begin_src emacs-lisp :var boats=boats
\(apply #'+ (mapcar #'cadr boats))
#+end_src\n"
      (let (runs)
        (dotimes (_ 2)                    ; the second goes to the place of the first
          (goto-char (point-min))
          (search-forward "Which?")
          (rlm-test-execute-and-wait)
          (goto-char (point-min))
          (should (re-search-forward "^  #\\+RESULTS: boats
  #\\+attr_rlm: \\[\\[rlm:\\([^]]+\\)\\]\\[the run\\]\\]
  | boat | 3 |
  | ship | 5 |
"))
          (push (match-string 1) runs)
          (goto-char (match-beginning 1))
          (should (= 1 (how-many "attr_rlm" (point-min))))
          (save-window-excursion
            (switch-to-buffer (current-buffer))
            (rlm-test-keys "C-c C-o")
            (should (equal (car runs) (rlm-run-id (rlm-run-in-buffer (window-buffer)))))))
        (should-not (equal (car runs) (cadr runs))))
      (search-forward "(apply")
      (should (equal 8 (org-babel-execute-src-block)))
      (should-not (string-search "the run" (org-export-as 'ascii))))))

(ert-deftest rlm-babel-silent-append-and-post ()
  (rlm-test-with-models (rlm-test-final "'all is well'")
    (rlm-test-babel "#+begin_src rlm :context harbour.txt :results silent
Well?
#+end_src\n"
      (let ((said (rlm-test-messages (rlm-test-execute-and-wait))))
        (should (member "rlm: all is well" said))
        (should-not (string-match-p "RESULTS" (buffer-string))))
      (erase-buffer)
      (insert "#+name: up
#+begin_src emacs-lisp :var text=\"\"
\(upcase text)
#+end_src\n
#+begin_src rlm :context harbour.txt :results verbatim replace :post up(text=*this*)
Well?
#+end_src\n")
      (search-backward "Well?")
      (rlm-test-execute-and-wait)
      (should (string-match-p "ALL IS WELL" (buffer-string)))
      (should-not (string-match-p "BEING ANSWERED" (buffer-string)))
      (erase-buffer)
      (insert "#+begin_src rlm :context harbour.txt :results verbatim append
Well?
#+end_src\n\n#+RESULTS:\n: Before.\n")
      (goto-char (point-min))
      (rlm-test-execute-and-wait)
      (should (string-match-p ": Before\\.\n+: all is well" (buffer-string)))
      (should-not (string-match-p "being answered" (buffer-string))))))

(ert-deftest rlm-babel-call-line-and-inline-block ()
  (rlm-test-with-models (rlm-test-final "'all is well'")
    (rlm-test-babel "#+name: ask
#+begin_src rlm :context harbour.txt
Well?
#+end_src

#+call: ask()

An src_rlm[:context harbour.txt :results raw]{Well?} in a line.\n"
      (search-forward "#+call: ask")
      (rlm-test-execute-and-wait)
      (should (string-match-p "#\\+call: ask()\n\n#\\+RESULTS:\n:results:\nall is well"
                              (buffer-string)))
      (search-forward "src_rlm")
      (rlm-test-execute)
      (rlm-test-wait (lambda () (null rlm-babel--jobs)))
      (should (string-match-p "src_rlm.*all is well" (buffer-string))))))

(ert-deftest rlm-babel-a-kept-result-is-not-asked-again-a-failure-is ()
  (rlm-test-with-models (vector '(:status 400 :times 1 :error "no")
                                (list :reply "Now.\n\n```repl\nFINAL('all is well')\n```"))
    (rlm-test-babel "#+begin_src rlm :context harbour.txt :cache yes :fresh yes
Well?
#+end_src\n"
      (rlm-test-execute-and-wait)
      (should (string-match-p "No answer: " (rlm-test-drawer)))
      (should-not (string-match-p "#\\+RESULTS\\[" (buffer-string)))
      (rlm-test-execute-and-wait)
      (should (string-match-p "all is well" (rlm-test-drawer)))
      (should (string-match-p "#\\+RESULTS\\[" (buffer-string)))
      (let ((before (buffer-string)))
        (rlm-test-execute)
        (should-not rlm-babel--jobs)
        (should (equal before (buffer-string)))))))

;;;; Exports

(ert-deftest rlm-babel-export-asks-and-waits-once ()
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (let ((text (org-export-as 'ascii)))
        (should (string-match-p "keeper is called Odalys" text))
        (should-not (string-match-p "being answered" text)))
      ;; With a result in the file, an export asks nothing.
      (rlm-test-execute-and-wait)
      (search-forward "Odalys")
      (replace-match "Somebody")
      (let ((runs (length (seq-filter #'rlm-run-in-buffer (buffer-list)))))
        (should (string-match-p "called Somebody" (org-export-as 'ascii)))
        (should (= runs (length (seq-filter #'rlm-run-in-buffer (buffer-list)))))))))

(ert-deftest rlm-babel-export-to-html-has-the-evidence ()
  (require 'ox-html)
  (rlm-test-with
    (rlm-test-babel rlm-test-block
      (let ((text (org-export-as 'html)))
        (should (string-match-p "harbour\\.txt\">harbour\\.txt:2</a> The keeper is called" text))
        (should-not (string-match-p "href=\"rlm:" text))))))

(ert-deftest rlm-babel-export-does-not-wait-for-ever ()
  (rlm-test-with-models (vector '(:reply "Now.\n\n```repl\nimport time\nwhile True: time.sleep(1)\n```"))
    (rlm-test-babel "#+begin_src rlm :context harbour.txt :timeout 1.5
Well?
#+end_src\n"
      (should (string-match-p "No answer: There was none within 1\\.5 seconds\\."
                              (org-export-as 'ascii)))
      (rlm-test-wait (lambda () (null (rlm-run-live-buffers)))))))

(ert-deftest rlm-babel-what-was-never-asked-is-not-waited-for-either ()
  (rlm-test-with
    (setq rlm-server-command '("sleep" "1000")
          rlm-confirm nil)
    (rlm-test-babel "#+begin_src rlm :context harbour.txt :timeout 0.2\nWell?\n#+end_src\n"
      (org-babel-execute-src-block)
      (should (string-match-p "No answer: There was none within 0.2 seconds" (buffer-string)))
      (should-not (rlm-run-live-buffers)))))

(ert-deftest rlm-babel-a-run-that-is-killed-is-not-waited-for ()
  (rlm-test-with-odd-server '("deaf")
    (rlm-test-babel rlm-test-block
      (let ((timer (run-at-time 0 0.01
                                (lambda ()
                                  (dolist (buffer (rlm-run-live-buffers))
                                    (when (rlm-run-id (rlm-run-in-buffer buffer))
                                      (kill-buffer buffer)))))))
        (unwind-protect
            (org-babel-execute-src-block)
          (cancel-timer timer)))
      (should (string-match-p "No answer: Its buffer was killed" (buffer-string))))))

(ert-deftest rlm-babel-waiting-can-be-quit ()
  (rlm-test-with-models (vector '(:reply "Now.\n\n```repl\nimport time\nwhile True: time.sleep(1)\n```"))
    (rlm-test-babel rlm-test-block
      (let ((timer (run-at-time 1 nil (lambda () (setq quit-flag t)))))
        (unwind-protect
            (should (eq 'quit (condition-case nil
                                  (progn (org-babel-execute-src-block) 'answered)
                                (quit 'quit))))
          (cancel-timer timer)))
      (rlm-test-wait (lambda () (null (rlm-run-live-buffers)))
                     "the end of a run whose block was quit")
      (should-not (string-match-p "RESULTS" (buffer-string))))))

(ert-deftest rlm-babel-in-batch-only-what-is-free-or-has-a-budget ()
  (rlm-test-with-odd-server '("paid")
    (rlm-test-babel rlm-test-block
      (let ((problem (should-error (org-babel-execute-src-block) :type 'user-error)))
        (should (string-match-p "could cost money: .*give the block a :budget" (cadr problem))))
      (erase-buffer)
      (insert "#+begin_src rlm :var text=\"much\"\nWhat is it?\n#+end_src\n")
      (goto-char (point-min))
      (should-error (org-babel-execute-src-block) :type 'user-error)
      (should (directory-empty-p temporary-file-directory))
      (should-not (rlm-test-requests "rlm/ask")))))

(provide 'rlm-babel-test)
;;; rlm-babel-test.el ends here
