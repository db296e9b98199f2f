;;; rlm-fold-test.el --- Folds and readers stay while a run is drawn  -*- lexical-binding: t; -*-

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

;; Whatever is folded by hand, at any moment of a run: what comes after that is
;; hidden where it belongs to what is folded, and shown where it doesn't, and
;; who reads stays where they are.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-forks)

(defvar org-fold-core-style)

(defun rlm-fold-test-draw (buffer events)
  "Let BUFFER, which is shown, draw EVENTS now."
  (dolist (event events)
    (rlm-trajectory-push buffer event))
  (rlm-trajectory-flush buffer))

(defun rlm-fold-test-at (cut body)
  "Call BODY in a buffer with the first CUT events, and with the other events."
  (rlm-test-with
    (let* ((events (rlm-test-first-question))
           (buffer (rlm-trajectory-create (plist-get (car events) :question))))
      (switch-to-buffer buffer)
      (rlm-fold-test-draw buffer (seq-take events cut))
      (funcall body buffer (seq-drop events cut)))))

(defun rlm-fold-test-cuts (step)
  "Return every STEPth number of events after which the run can be looked at."
  (number-sequence 1 (length (rlm-test-first-question)) step))

(defun rlm-fold-test-folded ()
  "Return how the folded headings of iterations and the like begin."
  (let (folded)
    (dolist (line (split-string (rlm-test-visible-text) "\n"))
      (when (string-match "\\`\\(\\*\\*? [^(:.]+\\).*\\.\\.\\.\\'" line)
        (push (string-trim (match-string 1 line)) folded)))
    (nreverse folded)))

(ert-deftest rlm-fold-test-what-is-folded-by-a-key-stays-so ()
  (dolist (cut (rlm-fold-test-cuts 3))
    (dolist (key '("1" "2" "3" "<backtab>"))
      (rlm-fold-test-at
       cut
       (lambda (buffer rest)
         (goto-char (point-max))
         (rlm-test-keys key)
         (goto-char (point-min))
         (dolist (some (seq-partition rest 5))
           (let ((folded (rlm-fold-test-folded)))
             (rlm-fold-test-draw buffer some)
             (should-not (rlm-test-shown-below-folds))
             (should-not (cl-set-difference folded (rlm-fold-test-folded) :test #'equal)))))))))

;; What is folded again in a fold left a seam there, at which headings grew into sight.
(ert-deftest rlm-fold-test-a-run-that-shows-its-question-alone-goes-on-so ()
  (dolist (org-fold-core-style '(overlays text-properties)) ; Emacs 29 has the latter
    (dolist (cut (rlm-fold-test-cuts 6))
      (rlm-fold-test-at
       cut
       (lambda (buffer rest)
         (rlm-test-keys "1")
         (goto-char (point-min))
         (let ((shown (rlm-test-visible-text)))
           (rlm-forks-add buffer (generate-new-buffer "fork") 1 "fork" '(:note "So?"))
           (dolist (event rest)
             (rlm-fold-test-draw buffer (list event))
             (should (equal (string-trim shown) (string-trim (rlm-test-visible-text)))))))))))

;; Its search takes the longer the more is folded.
(ert-deftest rlm-fold-test-org-looks-through-no-fold-for-what-is-added ()
  (skip-unless (fboundp 'org-fold--reveal-outline-maybe))
  (rlm-fold-test-at
   6
   (lambda (buffer rest)
     (rlm-test-keys "1")
     (goto-char (point-min))
     (let ((looked 0))
       (cl-letf (((symbol-function 'org-fold--reveal-outline-maybe)
                  (lambda (&rest _) (cl-incf looked) nil)))
         (rlm-fold-test-draw buffer rest))
       (should (zerop looked))))))

;; `K' and the like are about where point is.
(ert-deftest rlm-fold-test-who-is-at-a-heading-stays-there ()
  (dolist (cut (rlm-fold-test-cuts 2))
    (rlm-fold-test-at
     cut
     (lambda (buffer rest)
       (rlm-test-keys "3")
       (goto-char (point-max))
       (when (re-search-backward "^\\*\\*+ .*" nil t)
         (let ((heading (regexp-quote (match-string 0))))
           (set-window-point nil (point))
           (dolist (event rest)
             (rlm-fold-test-draw buffer (list event))
             (should (looking-at-p heading))
             (should (= (point) (window-point))))))))))

;; Of what stands before it, nothing gets into it.
(ert-deftest rlm-fold-test-a-narrowed-buffer-begins-where-it-did ()
  (dolist (cut (rlm-fold-test-cuts 2))
    (rlm-fold-test-at
     cut
     (lambda (buffer rest)
       (goto-char (point-max))
       (when (re-search-backward "^\\*\\*+ .*" nil t)
         (let ((heading (regexp-quote (match-string 0))))
           (org-narrow-to-subtree)
           (set-window-point nil (point))
           (dolist (event rest)
             (rlm-fold-test-draw buffer (list event))
             (should (= (point) (window-point) (point-min)))
             (should (looking-at-p heading)))))))))

(ert-deftest rlm-fold-test-who-is-at-the-end-of-a-folded-heading-reads-nothing-below-it ()
  (rlm-fold-test-at
   (1+ (seq-position (rlm-test-first-question) "subcallStarted"
                     (lambda (event kind) (equal kind (plist-get event :kind)))))
   (lambda (buffer rest)
     (goto-char (point-max))
     (outline-back-to-heading t)
     (should (looking-at-p "\\*\\*\\* Sub-call 1"))
     (end-of-line)
     (set-window-point nil (point))
     (rlm-fold-test-draw buffer (seq-take rest 8))
     (should-not (rlm-test-shown-below-folds)))))

(ert-deftest rlm-fold-test-reasoning-stays-shown-to-who-reads-it ()
  (rlm-fold-test-at
   (1+ (seq-position (rlm-test-first-question) "reasoning"
                     (lambda (event part) (equal part (plist-get event :part)))))
   (lambda (buffer rest)
     (goto-char (point-min))
     (re-search-forward "^:REASONING:\n")
     (set-window-point nil (point))
     (rlm-fold-test-draw buffer (seq-take rest 10))
     (should-not (invisible-p (point)))
     (goto-char (point-min))
     (rlm-fold-test-draw buffer (seq-drop rest 10)))))

;; A fold that begins in the middle of nothing would swallow what comes.
(ert-deftest rlm-fold-test-what-one-goes-to-is-shown-with-the-headings-beside-it ()
  (dolist (cut (seq-drop (rlm-fold-test-cuts 4) 1))
    (dolist (key '("t" "u" "o" "b"))
      (rlm-fold-test-at
       cut
       (lambda (buffer rest)
         (rlm-test-keys "1")
         (goto-char (point-min))
         (condition-case nil
             (rlm-test-keys key)
           (user-error (rlm-test-keys "t")))
         (should-not (invisible-p (point)))
         (should-not (string-match-p "^\\.\\.\\." (rlm-test-visible-text)))
         (should-not (string-match-p "^:PROPERTIES:$" (rlm-test-visible-text)))
         (set-window-point nil (point))
         (dolist (some (seq-partition rest 3))
           (rlm-fold-test-draw buffer some)
           (should-not (rlm-test-shown-below-folds))
           (should-not (invisible-p (point)))))))))

(ert-deftest rlm-fold-test-drawers-stay-folded-where-a-heading-is-unfolded ()
  (dolist (first '("1" "4"))
    (rlm-fold-test-at
     20
     (lambda (buffer rest)
       (rlm-test-keys first)
       (goto-char (point-min))
       (rlm-fold-test-draw buffer rest)
       (rlm-test-keys "3")
       (dolist (heading '("*** Sub-call 1" "*** Child run 4" "** Iteration 2"))
         (goto-char (point-min))
         (search-forward (concat "\n" heading))
         (rlm-test-keys "TAB")
         (should-not (invisible-p (line-end-position)))
         (should (string-match-p "^:PROPERTIES:\\.\\.\\.$" (rlm-test-visible-text)))
         (should-not (string-match-p "^:RLM_" (rlm-test-visible-text))))))))

(ert-deftest rlm-fold-test-forks-are-as-folded-as-what-they-stand-beside ()
  (dolist (key '("1" "2" "4"))
    (rlm-fold-test-at
     30
     (lambda (buffer rest)
       (let ((early (generate-new-buffer " early"))
             (late (generate-new-buffer " late")))
         (rlm-forks-add buffer early 1 "early" '(:note "So?"))
         (rlm-test-keys "1" key)
         (goto-char (point-min))
         (let ((before (string-trim (rlm-test-visible-text))))
           (cl-flet ((check ()
                       (should-not (rlm-test-shown-below-folds))
                       (when (equal key "1")
                         (should (equal before (string-trim (rlm-test-visible-text)))))))
             (rlm-forks-add buffer late 1 "late" '(:code "print(1)"))
             (check)
             (dolist (fork (list early late))
               (with-current-buffer fork
                 (run-hook-with-args
                  'rlm-after-run-functions
                  (rlm-run--make :id (string-trim (buffer-name)) :status "done" :answer "So."
                                 :seconds 1)))
               (check))
             (rlm-fold-test-draw buffer rest)
             (check))))))))

;; Python mode tells how it guesses the indentation of code, of short code that it can't.
(ert-deftest rlm-fold-test-to-colour-code-says-nothing ()
  (rlm-test-with
    (with-current-buffer (rlm-trajectory-create "Why?")
      (let ((inhibit-read-only t)
            (coloured (get-buffer " *org-src-fontification:python-mode*")))
        (when coloured
          (kill-buffer coloured))
        (setq-local org-src-fontify-natively t)
        (goto-char (point-max))
        (insert "#+begin_src python\nx = 1\n#+end_src\n")
        (font-lock-mode)
        (should-not (rlm-test-messages (font-lock-ensure)))
        (search-backward "x =")
        (should (memq 'font-lock-variable-name-face
                      (ensure-list (get-text-property (point) 'face))))))))

;; A window keeps where it was in the buffers that it has shown.
(ert-deftest rlm-fold-test-who-comes-back-is-where-they-were ()
  (dolist (way (list (lambda (buffer) (switch-to-buffer buffer))
                     (lambda (_) (kill-buffer))
                     (lambda (_) (quit-window))))
    (dolist (cut (rlm-fold-test-cuts 6))
      (dolist (place '("^\\*+ .*" "\\'"))
        (rlm-fold-test-at
         cut
         (lambda (buffer rest)
           (rlm-test-keys "3")
           (goto-char (point-max))
           (re-search-backward place)
           (set-window-point nil (point))
           (let ((there (if (eobp) "\\'" (regexp-quote (match-string 0)))))
             (pop-to-buffer (generate-new-buffer "other") '(display-buffer-same-window))
             (rlm-fold-test-draw buffer (butlast rest)) ; at the end, one is led to the answer
             (funcall way buffer)
             (should (eq buffer (window-buffer)))
             (should (save-excursion
                       (goto-char (window-point))
                       (looking-at-p there))))))))))

;; Both begin with the same words, and the first one is drawn anew.
(ert-deftest rlm-fold-test-who-is-at-a-fork-stays-there ()
  (dolist (here '("one" "two"))
    (rlm-fold-test-at
     30
     (lambda (buffer _)
       (let ((forks (list (generate-new-buffer "one") (generate-new-buffer "two"))))
         (dolist (fork forks)
           (rlm-forks-add buffer fork 1 (buffer-name fork) '(:note "So?")))
         (goto-char (point-min))
         (re-search-forward (format "^:RLM_FORK: %s$" here))
         (outline-back-to-heading t)
         (set-window-point nil (point))
         (dolist (fork forks)
           (with-current-buffer fork
             (run-hook-with-args 'rlm-after-run-functions
                                 (rlm-run--make :id (buffer-name) :status "done" :answer "So."
                                                :seconds 1)))
           (should (looking-at-p (format "\\*\\* Fork .*\n:PROPERTIES:\n:RLM_FORK: %s$" here)))
           (should (= (point) (window-point)))))))))

;; Where the buffer is narrowed to something else, the fork is still there.
(ert-deftest rlm-fold-test-forks-are-drawn-once ()
  (rlm-fold-test-at
   30
   (lambda (buffer rest)
     (rlm-forks-add buffer (generate-new-buffer "fork") 1 "fork" '(:note "So?"))
     (goto-char (point-min))
     (re-search-forward "^\\*\\* Iteration 1")
     (org-narrow-to-subtree)
     (let ((removed 0))
       (add-hook 'before-change-functions
                 (lambda (beg end)
                   (org-with-wide-buffer
                    (goto-char beg)
                    (when (and (< beg end) (looking-at-p "\\*\\* Fork at iteration 1 "))
                      (cl-incf removed))))
                 nil t)
       (rlm-fold-test-draw buffer rest)
       (should (zerop removed))))))

(provide 'rlm-fold-test)
;;; rlm-fold-test.el ends here
