;;; rlm-models-test.el --- Tests of models, costs and kept answers  -*- lexical-binding: t; -*-

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

;; The lists of models and costs, how models are chosen for one question,
;; and what is shown of kept answers: against the odd server, and against a
;; real one with a model that follows a script.

;;; Code:

(require 'rlm-test-lib)

(defun rlm-test-table (name command)
  "Call COMMAND and return its rows in the buffer NAME, as lists of trimmed cells."
  (call-interactively command)
  (rlm-test-wait (lambda () (buffer-local-value 'tabulated-list-entries (get-buffer name))) name)
  (with-current-buffer name
    (mapcar (lambda (entry) (append (mapcar #'substring-no-properties (cadr entry)) nil))
            tabulated-list-entries)))

(defun rlm-test-options ()
  "Return the options of the questions that the odd server was asked, newest first."
  (reverse (mapcar (lambda (params) (plist-get params :options)) (rlm-test-requests "rlm/ask"))))

(defun rlm-test-ask-text (&rest arguments)
  "Ask the odd server about a buffer, and wait; ARGUMENTS go to `rlm-ask-buffer'."
  (with-temp-buffer
    (insert "text\n")
    (rlm-test-wait-end (apply #'rlm-ask-buffer "odd?" arguments))))

;;;; The list of models

(ert-deftest rlm-models-test-list-tells-what-is-known-and-what-is-not ()
  (rlm-test-with-odd-server '()
    (should (equal '(("free" "odd/free" "config" "128,000" "free" "free" "present" "ok" "3/8" "2" "-")
                     ("dear" "odd/dear" "config" "unknown" "2.5" "10" "present" "down" "0/8" "0"
                      "1.25 s")
                     ("odd" "odd/odd" "config" "unknown" "unknown" "unknown" "present" "ok" "0/8"
                      "0" "-"))
                   (rlm-test-table rlm-models--buffer #'rlm-models)))
    (with-current-buffer rlm-models--buffer
      (goto-char (point-min))
      (search-forward "dear")
      (save-window-excursion
        (rlm-models-describe)
        (with-current-buffer "*rlm model*"
          (should (string-match-p "2\\.5 in, 10 out" (buffer-string)))
          (should (string-match-p "7 calls answered, .*all well" (buffer-string)))))
      (goto-char (point-max))
      (should-error (rlm-models-describe) :type 'user-error))))

(ert-deftest rlm-models-test-numbers-are-sorted-by-value-and-point-stays ()
  (rlm-test-with-odd-server '()
    (rlm-test-table rlm-models--buffer #'rlm-models)
    (with-current-buffer rlm-models--buffer
      (goto-char (point-min))
      (search-forward "dear")
      (setq-local tabulated-list-sort-key '("$/M in" . t))
      (setq rlm-models--status nil)
      (revert-buffer)
      (rlm-test-wait (lambda () rlm-models--status))
      (should (equal "dear" (tabulated-list-get-id)))
      (goto-char (point-min))
      (should (equal '("odd" "dear" "free")
                     (cl-loop while (tabulated-list-get-id) collect (tabulated-list-get-id)
                              do (forward-line)))))))

(ert-deftest rlm-models-test-followed-only-while-seen-and-live ()
  (rlm-test-with-odd-server '()
    (rlm-test-table rlm-models--buffer #'rlm-models)
    (should-not rlm-table--timer)
    (let ((rlm-client-live-hook '(rlm-table-follow))
          (asked (length (rlm-test-requests "rlm/status")))
          (buffer (rlm-trajectory-create "live?")))
      (switch-to-buffer rlm-models--buffer)
      (run-hooks 'rlm-client-live-hook)
      (should (memq rlm-table--timer timer-list))
      (rlm-table--tick)
      (rlm-test-wait (lambda () (> (length (rlm-test-requests "rlm/status")) asked)))
      (should rlm-table--timer)
      (with-current-buffer buffer
        (setf (rlm-run-status rlm-run-current) "done"))
      (rlm-table--tick)
      (should-not rlm-table--timer)
      (with-current-buffer buffer
        (setf (rlm-run-status rlm-run-current) "running"))
      (switch-to-buffer buffer)
      (delete-other-windows)
      (rlm-table-follow)
      (should-not rlm-table--timer))))

(ert-deftest rlm-models-test-without-a-server-the-cure-is-shown ()
  (rlm-test-with
    (setq rlm-server-command '("/is/not/there"))
    (dolist (list (list (cons rlm-models--buffer #'rlm-models) (cons rlm-costs--buffer #'rlm-costs)))
      (call-interactively (cdr list))
      (rlm-test-wait-text (get-buffer (car list)) "/is/not/there"))))

;;;; The ledger

(ert-deftest rlm-models-test-costs-have-totals-limits-and-the-unknown ()
  (rlm-test-with-odd-server '()
    (should (equal '(("2026-02" "boats" "dear" "1" "10" "4" "1,200" "30" "$1.50")
                     ("2026-02" "-" "odd" "1" "10" "4" "1,200" "30" "unknown")
                     ("2026-02" "boats" "total, limit $2.00" "" "10" "4" "1,200" "30" "$1.50")
                     ("2026-02" "all" "total, limit $5.00" "" "20" "8" "2,400" "60"
                      "$1.50 and unknown")
                     ("2026-01" "boats" "dear" "1" "10" "4" "1,200" "30" "$0.25")
                     ("2026-01" "all" "total" "" "10" "4" "1,200" "30" "$0.25"))
                   (rlm-test-table rlm-costs--buffer #'rlm-costs)))))

;;;; Options and models of one question

(ert-deftest rlm-models-test-depth-and-cache-are-sent-when-set ()
  (rlm-test-with-odd-server '()
    (rlm-test-ask-text)
    (let ((rlm-max-depth 3)
          (rlm-use-cache nil)
          (rlm-root-model "mine"))
      (rlm-test-ask-text)
      (rlm-test-ask-text '(:rootModel "other")))
    (let ((rlm-profile "small") (rlm-direct t))
      (rlm-test-ask-text))
    (let ((rlm-direct 'never))
      (rlm-test-ask-text))
    (should (equal '((:direct :false)
                     (:profile "small" :direct t)
                     (:rootModel "other" :maxDepth 3 :noCache t)
                     (:rootModel "mine" :maxDepth 3 :noCache t)
                     nil)
                   (rlm-test-options)))))

(ert-deftest rlm-models-test-prefix-argument-asks-for-the-models ()
  (rlm-test-with-odd-server '()
    (with-temp-buffer
      (insert "text\n")
      (setq-local rlm-sub-model "small")
      (let ((current-prefix-arg '(4))
            (answers '("dear" ""))
            (offered nil))
        (cl-letf (((symbol-function 'completing-read)
                   (lambda (_prompt names &rest _)
                     (push names offered)
                     (should (string-match-p
                              "unknown" (funcall (plist-get completion-extra-properties
                                                            :annotation-function)
                                                 "odd")))
                     (pop answers)))
                  ((symbol-function 'read-string) (lambda (&rest _) "odd?")))
          (rlm-test-wait-end (call-interactively #'rlm-ask-buffer)))
        (should (equal '(("free" "dear" "odd") ("free" "dear" "odd")) offered))))
    (should (equal '((:rootModel "dear" :subModel "small")) (rlm-test-options)))))

(ert-deftest rlm-models-test-models-can-be-named-while-they-are-not-known ()
  (rlm-test-with-odd-server '("deaf")
    (cl-letf (((symbol-function 'completing-read) (lambda (&rest _) "openai/any")))
      (let ((rlm-models--patience 0.2)
            (current-prefix-arg '(4)))
        (should (equal '(:rootModel "openai/any" :subModel "openai/any") (rlm-read-options)))))
    (let (current-prefix-arg)
      (should-not (rlm-read-options)))))

;;;; Asking anew

(ert-deftest rlm-models-test-asking-anew-reads-and-asks-again ()
  (rlm-test-with-odd-server '("paid")
    (let ((rlm-root-model "mine")
          prompts)
      (cl-letf (((symbol-function 'y-or-n-p) (lambda (text) (push text prompts))))
        (with-temp-buffer
          (insert "one\ntwo\n")
          (let ((buffer (rlm-ask-region "odd?" 1 (point-max)))
                (rlm-root-model nil))
            (rlm-test-wait-end buffer)
            (with-current-buffer buffer
              (rlm-test-wait-end (rlm-ask-anew))))))
      (should (= 2 (length prompts))))
    (should (equal '((:rootModel "mine" :fresh t) (:rootModel "mine")) (rlm-test-options)))
    (should (= 2 (length (rlm-test-requests "rlm/estimate"))))))

(ert-deftest rlm-models-test-what-is-asked-anew-is-as-it-is-now ()
  (rlm-test-with
    (rlm-test-file "a.txt" "old\n")
    (with-temp-buffer
      (insert "one\ntwo\nthree\n")
      (let ((context (rlm-context-of-region 5 8)))
        (rlm-context-release context)
        (goto-char 1)
        (insert "zero\n")
        (let ((source (car (rlm-context-sources (rlm-context-again context)))))
          (should (equal "two" (rlm-test-text (plist-get source :path))))
          (should (= 3 (plist-get source :firstLine))))))
    (let* ((buffer (generate-new-buffer "gone"))
           (context (with-current-buffer buffer
                      (insert "text")
                      (rlm-context-of-buffer)))
           (files (with-current-buffer buffer
                    (rlm-context-of-files '("a.txt") "a file"))))
      (kill-buffer buffer)
      (should-error (rlm-context-again context) :type 'user-error)
      (let ((default-directory "/"))
        (should (equal (rlm-context-sources files)
                       (rlm-context-sources (rlm-context-again files))))))))

(ert-deftest rlm-models-test-a-run-from-a-log-can-not-be-asked-anew ()
  (rlm-test-with-odd-server '()
    (let ((buffer (rlm-client-open (list :runId "20260101-000000-abcdef" :question "odd?"))))
      (rlm-test-wait-end buffer)
      (with-current-buffer buffer
        (should-error (rlm-ask-anew) :type 'user-error)))))

;;;; With a real server

(ert-deftest rlm-models-e2e-kept-answers-models-and-costs ()
  (rlm-test-with-models
      (vector (list :role "root" :reply "Now.\n\n```repl\nFINAL(llm_query('Which? ' + context))\n```\n")
              (list :role "sub" :reply "Green ones."))
    (let* ((rlm-confirm nil)
           (file (rlm-test-file "boats.txt" "Boats are painted green.\n"))
           (first (rlm-ask-files "Which?" (list file)))
           (run (rlm-test-wait-end first)))
      (should (equal '("done" 0) (list (rlm-run-status run) (rlm-run-cached run))))
      (let* ((second (rlm-ask-files "Which?" (list file)))
             (run (rlm-test-wait-end second)))
        (should (equal '("done" 2) (list (rlm-run-status run) (rlm-run-cached run))))
        (should (string-match-p "^\\*\\* Iteration 1 (cached): Now\\( (.*)\\)?$" (rlm-test-buffer-text second)))
        (should (string-match-p "^\\*\\*\\* Sub-call 1 (cached, " (rlm-test-buffer-text second)))
        (with-current-buffer second
          (should (string-match-p " | 2 cached | " (rlm-header)))
          (let ((run (rlm-test-wait-end (rlm-ask-anew))))
            (should (equal '("done" 0) (list (rlm-run-status run) (rlm-run-cached run)))))))
      (let* ((rlm-use-cache nil)
             (run (rlm-test-wait-end (rlm-ask-files "Which?" (list file)))))
        (should (equal '("done" 0) (list (rlm-run-status run) (rlm-run-cached run))))))
    (should (seq-some (lambda (row) (and (equal "scripted" (car row)) (member "free" row)))
                      (rlm-test-table rlm-models--buffer #'rlm-models)))
    (let ((total (car (last (rlm-test-table rlm-costs--buffer #'rlm-costs)))))
      (should (equal '("all" "total" "" "8" "2") (seq-subseq total 1 6)))
      (should (equal "0" (car (last total)))))))

(defun rlm-models-test-compare-questions ()
  "Let the server of the test answer similar questions alike."
  (let ((text (rlm-test-text (rlm-test-file "config.toml"))))
    (string-match "base-url = .*" text)
    (rlm-test-file "config.toml"
                   (concat text "[models.e]\nmodel = \"openai/e\"\n" (match-string 0 text)
                           "\n[cache]\nsemantic = true\nembedding-model = \"e\"\nthreshold = 0.7\n"))))

(ert-deftest rlm-models-e2e-a-similar-question-is-answered-and-asked-anyway-by-a-key ()
  "Through the real server and its embeddings; the negated question is never taken for it."
  (rlm-test-with-models
      (vector (list :role "root" :reply "Now.\n\n```repl\nFINAL(llm_query('Which? ' + context))\n```\n")
              (list :role "sub" :reply "Green ones."))
    (rlm-models-test-compare-questions)
    (let* ((rlm-confirm nil)
           (file (rlm-test-file "boats.txt" "Boats are painted green.\n"))
           (asked "Which boats are in the list?")
           (similar "Tell me which boats are in the list.")
           (first (rlm-test-wait-end (rlm-ask-files asked (list file))))
           (buffer (rlm-ask-files similar (list file)))
           (run (rlm-test-wait-end buffer)))
      (should (equal '("done" nil) (list (rlm-run-status first) (rlm-run-similar first))))
      (should (equal (list "done" asked) (list (rlm-run-status run) (rlm-run-similar run))))
      (should (equal "Green ones." (string-trim (rlm-run-answer run))))
      (let ((text (rlm-test-buffer-text buffer)))
        (should (string-match-p "^\\*+ Kept answer to a similar question" text))
        (should (string-match-p (concat "^ *" (regexp-quote asked) "$") text))
        (should-not (string-match-p "Iteration 1" text)))
      (with-current-buffer buffer
        (should (eq #'rlm-ask-anew (key-binding (kbd "A"))))
        (let* ((again (call-interactively (key-binding (kbd "A"))))
               (run (rlm-test-wait-end again)))
          (should (equal '("done" nil) (list (rlm-run-status run) (rlm-run-similar run))))
          (should (string-match-p "Iteration 1" (rlm-test-buffer-text again)))))
      (let ((run (rlm-test-wait-end (rlm-ask-files "Which boats are not in the list?"
                                                   (list file)))))
        (should (equal '("done" nil) (list (rlm-run-status run) (rlm-run-similar run))))))
    (should (seq-some (lambda (row) (equal "e" (car row)))
                      (rlm-test-table rlm-models--buffer #'rlm-models)))
    ;; It is in the list, and not among those that a question may go to.
    (cl-letf (((symbol-function 'completing-read)
               (lambda (_ names &rest _)
                 (should (member "scripted" names))
                 (should-not (member "e" names))
                 "")))
      (should-not (rlm-models-read "Model" (rlm-models-fetch) nil)))))

(ert-deftest rlm-models-e2e-installed-server-answers ()
  "Where packages may be fetched, which CI=1 says; it takes half a minute."
  (skip-unless (equal (getenv "CI") "1"))
  (rlm-test-with
    (let ((rlm-server-command nil)
          (file (rlm-test-file "boats.txt" "Boats are painted green.\n"))
          (end (+ (float-time) 300))
          done)
      (unwind-protect
          (progn
            (add-hook 'rlm-server-installed-hook (lambda () (setq done t)))
            (rlm-install-server rlm-test-root)
            (with-current-buffer rlm-install--buffer
              (while (not (or done (string-match-p "^Failed with" (buffer-string))
                              (> (float-time) end)))
                (accept-process-output nil 0.1))
              (should (equal '(t nil) (list done (unless done (buffer-string)))))))
        (setq rlm-server-installed-hook nil))
      (should (equal "installed by rlm-install-server" (nth 1 (rlm-server-find))))
      (let ((run (rlm-test-wait-end (rlm-ask-files "How are boats painted?" (list file)))))
        (should (equal "done" (rlm-run-status run)))
        (should (string-match-p "green" (rlm-run-answer run)))))))

(provide 'rlm-models-test)
;;; rlm-models-test.el ends here
